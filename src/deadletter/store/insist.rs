//! What is asked for again while the disk fails.

use std::time::Duration;

use super::Store;
use super::turns::{self, To};
use crate::deadletter::id::LetterId;
use crate::deadletter::letter::Content;
use crate::deadletter::query::StoreError;

/// What must reach the disk, and did not, is asked for again after this, then ever later.
const ASK_AGAIN: Duration = Duration::from_millis(100);
const ASK_AGAIN_MAX: Duration = Duration::from_secs(2);

/// A content that looks damaged is read again after these.
const READ_AGAIN: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(300), Duration::from_millis(1000)];

impl Store {
    /// Sending -> elsewhere, asked for until it is on disk: a letter that stays marked is stuck until the next start.
    pub(super) async fn withdraw(&self, id: LetterId, to: To) -> Result<(), StoreError> {
        let mut pause = ASK_AGAIN;
        let mut done = self.write(0, move |work| turns::withdraw(work, id, to)).await;
        while matches!(done, Err(StoreError::Unavailable(_) | StoreError::Full)) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(ASK_AGAIN_MAX);
            done = self.write(0, move |work| turns::withdraw(work, id, to)).await;
            if let Err(StoreError::Standing(_) | StoreError::NotFound(_)) = done {
                return Ok(()); // It was on disk after all.
            }
        }
        done
    }

    /// A letter's content; damage is believed the fourth time: to SQLite a page that cannot be read now is one that makes no sense.
    pub(super) async fn content_surely(&self, id: LetterId) -> Result<Content, StoreError> {
        for pause in READ_AGAIN {
            match self.content(id).await {
                Err(StoreError::Damaged(_)) => tokio::time::sleep(pause).await,
                read => return read,
            }
        }
        self.content(id).await
    }
}

//! A connection that has left HTTP (WebSocket and its like): bytes both ways, until either side ends or both are idle.

use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::body::Cut;
use super::finish::{End, Finish};
use crate::upstream::{Loan, Metered};

/// Copies until one side ends, or nothing has passed either way for `idle`.
pub(super) async fn run(
    client: OnUpgrade,
    upstream: OnUpgrade,
    idle: Duration,
    loan: Loan,
    mut finish: Box<Finish>,
) {
    let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) else {
        return; // One of the two hung up in between: the end is the client's, or nobody's.
    };
    let (mut client, meter) = Metered::new(TokioIo::new(client));
    let mut upstream = TokioIo::new(upstream);
    let copied = {
        let mut copying = std::pin::pin!(copy_bidirectional(&mut client, &mut upstream));
        loop {
            let before = meter.mark();
            tokio::select! {
                copied = &mut copying => break Some(copied),
                () = tokio::time::sleep(idle) => if meter.mark() == before { break None }
            }
        }
    };
    match copied {
        Some(Ok((_, down))) => {
            finish.passed(usize::try_from(down).unwrap_or(usize::MAX));
            finish.ended(End::Complete);
        }
        Some(Err(_)) => finish.ended(End::Cut(Cut::Upstream)),
        None => finish.ended(End::Cut(Cut::Idle)),
    }
    drop(loan);
}

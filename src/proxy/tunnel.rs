//! A connection that has left HTTP (WebSocket and its like): bytes both ways, until either side ends or both are idle.

use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::body::Cut;
use super::finish::{End, Finish};
use crate::clock;
use crate::upstream::{Loan, Metered};

/// So often in `timeout.idle` it is looked whether a byte has passed: the cut is late by no more than one look.
const LOOKS: u32 = 16;

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
        let (mut before, mut still) = (meter.mark(), 0);
        loop {
            tokio::select! {
                copied = &mut copying => break Some(copied),
                () = tokio::time::sleep(idle / LOOKS) => {}
            }
            let now = meter.mark();
            still = if now == before { still + 1 } else { 0 };
            before = now;
            if still >= LOOKS {
                break None;
            }
        }
    };
    match copied {
        Some(Ok((_, down))) => {
            finish.passed(usize::try_from(down).unwrap_or(usize::MAX));
            finish.ended(End::Complete, clock::now());
        }
        Some(Err(_)) => finish.ended(End::Cut(Cut::Upstream), clock::now()),
        None => finish.ended(End::Cut(Cut::Idle), clock::now()),
    }
    drop(loan);
}

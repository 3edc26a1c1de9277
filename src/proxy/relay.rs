//! An upstream's body on its way to the client, piece by piece as it comes, with its clocks.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::body::{Body, Cut};
use super::finish::{End, Finish};
use super::heard::{Ahead, Ended};
use super::stale::Copying;
use super::stream::Stream;
use crate::clock;
use crate::drain::{Drain, Phase};
use crate::upstream::Loan;
use crate::upstream::pause::{Pause, Spare};

/// An upstream's body with its clocks; it gives the connection back at its clean end.
#[derive(Debug)]
pub struct Relay {
    incoming: Incoming,
    loan: Option<Loan>,
    clocks: Clocks,
    pause: Pause,
    /// What keeps a copy, where one may serve later.
    copying: Option<Copying>,
    /// How often the client's connection has asked for more.
    asked: u64,
    finish: Box<Finish>,
    /// What was read before the answer was passed on, and the events that it bears.
    ahead: Option<Box<Ahead>>,
    closing: Option<Closing>,
}

/// The bounds on a response's body.
#[derive(Debug)]
pub(super) struct Clocks {
    /// Between two pieces.
    pub idle: Duration,
    /// Where the client's connection keeps a timer.
    pub spare: Spare,
    /// For the whole; `None` = no limit.
    pub stream: Option<Pin<Box<Sleep>>>,
    /// For an event stream: when the process ends.
    pub ending: Option<Ending>,
}

/// Ready once the process has no more time for what is under way.
pub(super) struct Ending(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Ending {
    pub(super) fn of(drain: &Drain) -> Self {
        let mut phase = drain.watch();
        Self(Box::pin(async move { drop(phase.wait_for(|phase| *phase >= Phase::Storing).await) }))
    }
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ending")
    }
}

/// A stream's last words are on their way out; then it is cut.
#[derive(Debug)]
struct Closing {
    why: Cut,
    timer: Option<Pin<Box<Sleep>>>,
}

/// The library drops what it has not written yet when a body fails: last words are given so long to get out, from when the
/// library has taken them.
const LAST_WORDS: Duration = Duration::from_millis(250);

type Polled = Poll<Option<Result<Frame<Bytes>, Cut>>>;

impl Relay {
    /// The body of an upstream's response, and what of it was read before.
    pub(super) fn body(
        incoming: Incoming,
        ahead: Option<Box<Ahead>>,
        loan: Loan,
        clocks: Clocks,
        copying: Option<Copying>,
        mut finish: Box<Finish>,
    ) -> Body {
        if incoming.is_end_stream() && ahead.as_ref().is_none_or(|ahead| ahead.is_empty()) {
            let now = clock::now();
            if let Some(copying) = copying {
                copying.keep(now);
            }
            loan.give_back(now);
            finish.ended(End::Complete, now);
            return Body::Own { bytes: Bytes::new(), finish: Some(finish) };
        }
        let pause = Pause::new(clocks.idle, clocks.spare.clone());
        Body::Relay(Box::new(Self {
            incoming,
            loan: Some(loan),
            clocks,
            pause,
            copying,
            asked: 0,
            finish,
            ahead,
            closing: None,
        }))
    }

    /// How often it was asked for more.
    pub(super) const fn asked(&self) -> u64 {
        self.asked
    }

    /// The client takes nothing more: what it holds of the upstream is let go.
    pub(super) fn stalled(&mut self) {
        drop(self.cut(Cut::Stalled));
    }

    pub(super) fn is_end(&self) -> bool {
        self.ahead.is_none() && self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.ahead {
            None => self.incoming.size_hint(),
            Some(ahead) => match ahead.left() {
                Some(left) if ahead.ended.is_some() => SizeHint::with_exact(left),
                Some(left) => self
                    .incoming
                    .size_hint()
                    .exact()
                    .map_or_else(SizeHint::default, |rest| SizeHint::with_exact(left + rest)),
                None => SizeHint::default(),
            },
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Polled {
        self.asked += 1;
        if self.ahead.is_some() { self.poll_ahead(cx) } else { self.poll_incoming(cx) }
    }

    /// A body of which nothing was read before.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Polled {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => match self.poll_clocks(cx) {
                Some(why) => self.cut(why),
                None => Poll::Pending,
            },
            Poll::Ready(Some(Ok(frame))) => {
                self.pause.over();
                if self.stream_is_over(cx) {
                    return self.cut(Cut::Stream);
                }
                self.passes(frame.data_ref().map_or(&[], |data| &data[..]));
                // Behind trailers nobody asks for more.
                if frame.is_trailers() || self.incoming.is_end_stream() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.finish.fault(&error);
                self.cut(Cut::Upstream)
            }
            Poll::Ready(None) => {
                self.complete();
                Poll::Ready(None)
            }
        }
    }

    /// A body whose beginning was read before, or whose events are looked at.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Polled {
        loop {
            let Some(ahead) = &mut self.ahead else { return self.poll_incoming(cx) };
            if let Some(piece) = ahead.pieces.pop_front() {
                let last = ahead.pieces.is_empty()
                    && match &ahead.ended {
                        Some(Ended::Whole(trailers)) => trailers.is_none(),
                        Some(Ended::Broken(_)) => false,
                        None => ahead.stream.is_none() && self.incoming.is_end_stream(),
                    };
                self.passes(&piece);
                // Behind a length that is reached nobody asks for more.
                if last && self.closing.is_none() {
                    self.complete();
                }
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if let Some(closing) = &mut self.closing {
                let timer = closing.timer.get_or_insert_with(|| Box::pin(sleep(LAST_WORDS)));
                ready!(timer.as_mut().poll(cx));
                let why = closing.why;
                return self.cut(why);
            }
            match &mut ahead.ended {
                Some(Ended::Whole(trailers)) => {
                    let trailers = trailers.take().map(|trailers| Ok(Frame::trailers(trailers)));
                    self.complete();
                    return Poll::Ready(trailers);
                }
                Some(Ended::Broken(error)) => {
                    self.finish.fault(error);
                    self.breaks_off(Cut::Upstream);
                    continue;
                }
                None => {}
            }
            if ahead.stream.is_none() {
                self.ahead = None; // All that was read before has gone on.
                continue;
            }
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Pending => match self.poll_clocks(cx) {
                    Some(why) => self.breaks_off(why),
                    None => return Poll::Pending,
                },
                Poll::Ready(Some(Err(error))) => {
                    self.finish.fault(&error);
                    self.breaks_off(Cut::Upstream);
                }
                Poll::Ready(next) => {
                    self.pause.over();
                    let over =
                        self.clocks.stream.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
                    let read = if over { Err(Cut::Stream) } else { ahead.reads(next.and_then(Result::ok)) };
                    if let Err(why) = read {
                        self.breaks_off(why);
                    }
                }
            }
        }
    }

    /// It ends before its end: the client hears it in its API's words, where it has some, and sees it in any case.
    fn breaks_off(&mut self, why: Cut) {
        self.loan = None;
        if let Some(ahead) = &mut self.ahead {
            let event = ahead.stream.as_ref().and_then(|stream| stream.error_event(why, self.finish.id()));
            ahead.pieces.extend(event);
        }
        self.closing = Some(Closing { why, timer: None });
    }

    /// So much goes to the client now.
    fn passes(&mut self, piece: &[u8]) {
        if let Some(copying) = &mut self.copying {
            copying.piece(piece);
        }
        self.finish.relayed(piece);
    }

    fn poll_clocks(&mut self, cx: &mut Context<'_>) -> Option<Cut> {
        if self.stream_is_over(cx) {
            return Some(Cut::Stream);
        }
        if self.clocks.ending.as_mut().is_some_and(|ending| ending.0.as_mut().poll(cx).is_ready()) {
            self.clocks.ending = None;
            return Some(Cut::Drain);
        }
        if let Some(stream) = self.ahead.as_mut().and_then(|ahead| ahead.stream.as_mut())
            && poll_content(stream, cx)
        {
            return Some(Cut::FirstContent);
        }
        self.pause.poll(cx).is_ready().then_some(Cut::Idle)
    }

    fn stream_is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.clocks.stream.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
    }

    fn complete(&mut self) {
        let now = clock::now();
        if let Some(copying) = self.copying.take() {
            copying.keep(now);
        }
        let stream = self.ahead.as_mut().and_then(|ahead| ahead.stream.as_mut());
        let failed = stream.and_then(|stream| stream.completed(self.finish.id()));
        self.finish.ended(failed.map_or(End::Complete, End::Failed), now);
        if let Some(loan) = self.loan.take() {
            loan.give_back(now);
        }
    }

    fn cut(&mut self, why: Cut) -> Polled {
        self.loan = None;
        let mut end = End::Cut(why);
        if let Some(stream) = self.stream() {
            stream.ended(why.end());
            if stream.is_whole() {
                end = End::Complete; // The client sees the cut; there is nobody to blame for it.
            }
        }
        self.finish.ended(end, clock::now());
        Poll::Ready(Some(Err(why)))
    }

    fn stream(&mut self) -> Option<&mut Stream> {
        self.ahead.as_mut()?.stream.as_mut()
    }
}

/// Whether the time for the first event with content is up.
fn poll_content(stream: &mut Stream, cx: &mut Context<'_>) -> bool {
    let Some(by) = stream.first_content_by() else {
        stream.content_timer = None;
        return false;
    };
    let timer = stream.content_timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::from_std(by))));
    timer.as_mut().poll(cx).is_ready()
}

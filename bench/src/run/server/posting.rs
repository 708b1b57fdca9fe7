//! What the server does itself while the peer measures: it answers, or posts as well, in a thread a lane.

use std::time::Duration;

use peerpath_importers::{ConnectedEnd, Op, Side};
use peerpath_paths::Explanation;
use quanta::Clock;

use super::{Ready, Session, out_of_turn};
use crate::interrupt::Interrupt;
use crate::layout::Layout;
use crate::measure::{self, Flow, MeasureError, PingPong, Stream, Throughput};
use crate::peer::connection::Lost;
use crate::peer::message::{Answer, Echo, Echoing, Post, Posted, Request};
use crate::plan::can_flow;
use crate::run::ended::Ended;
use crate::run::lane::receives;
use crate::run::ping_pong::last_byte_of;
use crate::run::threads;
use crate::run::transfer::come_round;

/// How often to look whether those have ended who are waited for.
const LOOK: Duration = Duration::from_millis(1);

/// What the peer is told of something that it has asked for.
pub(super) type Told = Result<Answer, Ended>;

/// Tells those who work for a peer when to end.
#[derive(Default)]
struct Until {
    /// It has had enough, and waits for the end of what is under way.
    over: Interrupt,
    /// Nobody waits any more.
    gone: Interrupt,
}

impl Session<'_> {
    /// Sends back what comes, in a thread a lane, until the peer has had enough of that; none where it has had enough of the cell.
    pub(super) fn echo(
        &self,
        ready: &Ready,
        ends: &mut [Box<dyn ConnectedEnd + '_>],
        echo: &Echo,
    ) -> Result<Option<Told>, Lost> {
        if ends.is_empty() || ends.len() != echo.back.len() {
            return out_of_turn(self.peer).map(|()| None);
        }
        let op = ready.op;
        if !matches!(op, Op::Write | Op::WriteImm | Op::Send) {
            return Ok(Some(Err(Ended::waived(
                format!("nothing tells of a {op}"),
                Explanation::uncaused("so it cannot be answered", "ask for write, write_imm or send"),
            ))));
        }
        let view = &**ready.buffer.view();
        let lanes = ends.iter_mut().zip(ready.windows(0)).zip(&echo.back).map(|((end, layout), &back)| {
            let last_byte = measure::look_at(view, last_byte_of(op, layout).buffer_offset)?;
            let before = end.arrived()?;
            Ok((&mut **end, PingPong { layout, op, back, last_byte, rounds: 0 }, before))
        });
        let lanes: Vec<_> = match lanes.collect::<Result<_, MeasureError>>() {
            Ok(lanes) => lanes,
            Err(error) => return Ok(Some(Err(error.into()))),
        };
        let last_bytes = lanes.iter().map(|(_, ping_pong, _)| ping_pong.last_byte).collect();
        self.busy(
            &Answer::Echoing(Echoing { last_bytes }),
            lanes,
            |(end, ping_pong, before), until| measure::echo(end, ping_pong, before, &Clock::new(), &until.over),
            |_| Answer::Resting,
        )
    }

    /// Posts as well, in a thread a lane, until it has done what it was told to; none where the peer has had enough of the cell.
    pub(super) fn post(
        &self,
        ready: &Ready,
        ends: &mut [Box<dyn ConnectedEnd + '_>],
        post: &Post,
    ) -> Result<Option<Told>, Lost> {
        // What is the peer's is far from here.
        let layouts = ready.windows(1).zip(&post.at).map(|(layout, &at)| layout.seen_from_near(at));
        let layouts: Option<Vec<Layout>> = layouts.collect();
        let layouts = layouts.filter(|layouts| !ends.is_empty() && ends.len() == layouts.len());
        let Some(layouts) = layouts.filter(|layouts| layouts.len() == post.at.len()) else {
            return out_of_turn(self.peer).map(|()| None);
        };
        let Post { post_list, completion_moderation: moderation, .. } = *post;
        let (op, flow) = (ready.op, Flow { post_list, moderation, ..ready.flow });
        if !can_flow(flow.depth, post_list, moderation) {
            return Ok(Some(Err(Ended::waived(
                "nothing can be posted like that",
                Explanation::uncaused(
                    "the queue would be full of operations none of which tells that it ended",
                    "use a depth that is a multiple of --post-list, and larger than both together",
                ),
            ))));
        }
        let (clock, limit) = (Clock::new(), post.limit());
        let lanes: Vec<_> = ends.iter_mut().map(|end| &mut **end).zip(&layouts).collect();
        let tell = |seen: Vec<Vec<Throughput>>| {
            let flows = || seen.iter().flatten();
            let (begun, last) = (flows().map(|flow| flow.begun).min(), flows().map(|flow| flow.last).max());
            let took = clock.delta(begun.unwrap_or(0), last.unwrap_or(0));
            let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            Answer::Posted(Posted { operations: flows().map(|flow| flow.operations).collect(), nanoseconds })
        };
        self.busy(
            &Answer::Posting,
            lanes,
            |(end, layout), until| {
                let stream = Stream { layout, op, posted_by: Side::Far, queues: flow.queues, first: 0 };
                let seen = measure::bandwidth(end, &[stream], flow, limit, &clock, &until.gone)?;
                let ended = seen.iter().map(|seen| seen.operations).sum();
                come_round(end, stream, ended, &clock, &until.gone)?;
                // What the peer sends meanwhile needs receives for as long as it does.
                let mut done = Vec::new();
                while receives(op) && !until.over.is_set() {
                    end.poll(&mut done)?;
                    std::thread::yield_now();
                }
                Ok(seen)
            },
            tell,
        )
    }

    /// Has a thread a lane work, from when the peer is told of it until it has had enough and all of them have ended. None where it
    /// has had enough of the cell.
    fn busy<I: Send, T: Send>(
        &self,
        begun: &Answer,
        lanes: Vec<I>,
        work: impl Fn(I, &Until) -> Result<T, MeasureError> + Sync,
        tell: impl FnOnce(Vec<T>) -> Answer,
    ) -> Result<Option<Told>, Lost> {
        let until = Until::default();
        std::thread::scope(|scope| {
            let working = scope.spawn(|| threads::together(lanes, threads::in_turn(&[]), |lane| work(lane, &until)));
            let heard = self.peer.say(begun).and_then(|()| self.peer.hear(self.server.interrupt));
            until.over.stop();
            let heard = match heard {
                Ok(Request::Rest) => self.wait(|| working.is_finished()).map(|()| Request::Rest),
                heard => heard,
            };
            if !matches!(heard, Ok(Request::Rest)) {
                until.gone.stop();
            }
            let worked = working.join().unwrap_or(Err(MeasureError::Panicked));
            match heard? {
                Request::Rest => Ok(Some(worked.map(tell).map_err(Ended::from))),
                Request::Close => Ok(None),
                _ => out_of_turn(self.peer).map(|()| None),
            }
        })
    }

    /// Waits for the end of something, as the peer does.
    fn wait(&self, ended: impl Fn() -> bool) -> Result<(), Lost> {
        while !ended() {
            if self.server.interrupt.is_set() {
                return Err(Lost::Interrupted);
            }
            if self.peer.heard()?.is_some() {
                return out_of_turn(self.peer);
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

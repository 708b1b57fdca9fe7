//! Transfers that the server posts while the client measures: replies to messages, or transfers of its own. Uses one thread per
//! lane.

use std::time::Duration;

use peerpath_importers::{ConnectedEnd, Op, Side};
use peerpath_paths::Explanation;
use quanta::Clock;

use super::super::cell_error::CellError;
use super::super::threads;
use super::super::transfer::{last_byte_of, refill_receives, uses_receives};
use super::cell::Answer;
use super::open_cell::OpenCell;
use super::{Session, unexpected_request};
use crate::interrupt::Interrupt;
use crate::layout::Layout;
use crate::measure::{self, Flow, MeasureError, PingPong, Stream, Throughput};
use crate::peer::connection::ConnectionError;
use crate::peer::message::{Echo, Echoing, Post, Posted, Request, Response};
use crate::plan::{send_queue_drains, why_not_draining};

/// Interval between checks whether the threads have ended.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Action after the client's last request.
type Posting = Result<Answer, ConnectionError>;

/// Flags that stop the threads that serve a client.
#[derive(Default)]
struct Stop {
    /// Set when the client has finished and waits for the transfers in flight.
    finish: Interrupt,
    /// Set when the client does not wait for the transfers in flight.
    abort: Interrupt,
}

/// Sends every received message back until the client sends its next request.
pub(super) fn echo(
    session: &Session<'_>,
    cell: &OpenCell,
    ends: &mut [Box<dyn ConnectedEnd + '_>],
    echo: &Echo,
) -> Posting {
    if ends.is_empty() || ends.len() != echo.back.len() {
        return Ok(Answer::Unexpected);
    }
    let op = cell.op;
    if !matches!(op, Op::Write | Op::WriteImm | Op::Send) {
        return Ok(Answer::Send(Err(CellError::waived(
            format!("cannot reply to a {op}"),
            Explanation::uncaused(
                "The responder cannot detect when this operation completes.",
                "Use write, write_imm or send.",
            ),
        ))));
    }
    let view = &**cell.buffer.view();
    let lanes = ends.iter_mut().zip(cell.windows_of_stream(0)).zip(&echo.back);
    let lanes = lanes.map(|((end, layout), &return_offset)| {
        let last_byte = measure::read_byte(view, last_byte_of(op, layout).buffer_offset)?;
        let arrived_before = end.arrived()?;
        Ok((&mut **end, PingPong { layout, op, return_offset, last_byte, rounds: 0 }, arrived_before))
    });
    let lanes: Vec<_> = match lanes.collect::<Result<_, MeasureError>>() {
        Ok(lanes) => lanes,
        Err(error) => return Ok(Answer::Send(Err(error.into()))),
    };
    let last_bytes = lanes.iter().map(|(_, ping_pong, _)| ping_pong.last_byte).collect();
    run_until_rest(
        session,
        &Response::Echoing(Echoing { last_bytes }),
        lanes,
        |(end, ping_pong, arrived_before), stop| {
            measure::echo(end, ping_pong, arrived_before, &Clock::new(), &stop.finish)
        },
        |_| Response::Resting,
    )
}

/// Posts the transfers of the second stream of each lane.
pub(super) fn post(
    session: &Session<'_>,
    cell: &OpenCell,
    ends: &mut [Box<dyn ConnectedEnd + '_>],
    post: &Post,
) -> Posting {
    // This host posts, so its exported memory is the initiator memory, and the client's memory is remote.
    let layouts = cell.windows_of_stream(1).zip(&post.at).map(|(layout, &at)| layout.seen_from_near(at));
    let layouts: Option<Vec<Layout>> = layouts.collect();
    let layouts = layouts.filter(|layouts| !ends.is_empty() && ends.len() == layouts.len());
    let Some(layouts) = layouts.filter(|layouts| layouts.len() == post.at.len()) else {
        return Ok(Answer::Unexpected);
    };
    let Post { post_list, completion_moderation: moderation, .. } = *post;
    let (op, flow) = (cell.op, Flow { post_list, moderation, ..cell.flow });
    if !send_queue_drains(flow.depth, post_list, moderation) {
        return Ok(Answer::Send(Err(CellError::waived(
            format!(
                "cannot use a post list of {} and a completion moderation of {moderation} with a depth of {}",
                post_list.unwrap_or(1),
                flow.depth
            ),
            Explanation::uncaused(
                why_not_draining(flow.depth, post_list.unwrap_or(1)),
                "Use a depth that is a multiple of the post list and larger than the post list plus the completion moderation.",
            ),
        ))));
    }
    let (clock, limit) = (Clock::new(), post.limit());
    let lanes: Vec<_> = ends.iter_mut().map(|end| &mut **end).zip(&layouts).collect();
    let response = |throughputs: Vec<Vec<Throughput>>| {
        let all = || throughputs.iter().flatten();
        let start = all().map(|throughput| throughput.start).min();
        let end = all().map(|throughput| throughput.end).max();
        let duration = clock.delta(start.unwrap_or(0), end.unwrap_or(0));
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Response::Posted(Posted { operations: all().map(|throughput| throughput.operations).collect(), nanoseconds })
    };
    run_until_rest(
        session,
        &Response::Posting,
        lanes,
        |(end, layout), stop| {
            let stream = Stream { layout, op, posted_by: Side::Far, queues: flow.queues, first: 0 };
            let throughputs = measure::bandwidth(end, &[stream], flow, limit, &clock, &stop.abort)?;
            let operations = throughputs.iter().map(|throughput| throughput.operations).sum();
            refill_receives(end, stream, operations, &clock, &stop.abort)?;
            // Polling posts the receives for the client's sends, so poll until the client has finished.
            let mut completions = Vec::new();
            while uses_receives(op) && !stop.finish.is_set() {
                end.poll(&mut completions)?;
                std::thread::yield_now();
            }
            Ok(throughputs)
        },
        response,
    )
}

/// Runs `work` in a thread per lane. Sends `started` to the client, waits for the client's next request, and then waits for the
/// threads. Ends early if the kernel requests the release of the source's function.
fn run_until_rest<I: Send, T: Send>(
    session: &Session<'_>,
    started: &Response,
    lanes: Vec<I>,
    work: impl Fn(I, &Stop) -> Result<T, MeasureError> + Sync,
    response: impl FnOnce(Vec<T>) -> Response,
) -> Posting {
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let post = || threads::run_together(lanes, threads::round_robin(&[]), |lane| work(lane, &stop));
        let worker = match std::thread::Builder::new().spawn_scoped(scope, post) {
            Ok(worker) => worker,
            Err(source) => return Ok(Answer::Send(Err(MeasureError::Thread { source }.into()))),
        };
        let peer = session.peer;
        let received = peer.send(started).and_then(|()| next_request(session));
        stop.finish.stop();
        let has_finished = match received {
            Ok(Some(Request::Rest)) => wait_until(session, || worker.is_finished()),
            _ => Ok(false),
        };
        if !matches!(has_finished, Ok(true)) {
            stop.abort.stop();
        }
        let results = worker.join().unwrap_or(Err(MeasureError::Panicked));
        has_finished?;
        Ok(match received? {
            Some(Request::Rest) => Answer::Send(results.map(response).map_err(CellError::from)),
            Some(Request::Close) => Answer::Close,
            Some(_) => Answer::Unexpected,
            None => Answer::Removed,
        })
    })
}

/// Waits for the client's next request. `None` if the kernel requests the release of the source's function.
fn next_request(session: &Session<'_>) -> Result<Option<Request>, ConnectionError> {
    loop {
        match session.peer.receive_briefly(&session.interrupt)? {
            None if session.removal().is_some() => return Ok(None),
            None => {}
            request => return Ok(request),
        }
    }
}

/// Waits until `ended` returns true. Returns false if the kernel requests the release of the source's function meanwhile. Fails
/// if a signal arrives, the connection is lost, or the client sends a message meanwhile.
fn wait_until(session: &Session<'_>, ended: impl Fn() -> bool) -> Result<bool, ConnectionError> {
    while !ended() {
        if session.interrupt.ends_run() {
            return Err(ConnectionError::Interrupted);
        }
        if session.interrupt.is_set() {
            return Ok(false);
        }
        if session.peer.try_receive()?.is_some() {
            return unexpected_request(session.peer).map(|()| true);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(true)
}

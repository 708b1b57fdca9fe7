//! Serves the requests that concern one cell, from opening it to closing it.

use peerpath_importers::{Completion, ConnectedEnd, EndSettings, Endpoint, UnconnectedEnd};
use peerpath_paths::Bdf;

use super::super::cell_error::CellError;
use super::super::transfer::uses_receives;
use super::open_cell::{OpenCell, open_cell};
use super::{Session, posting, unexpected_request};
use crate::atomic_words;
use crate::failure::Failure;
use crate::measure::PING_PONG_DEPTH;
use crate::pattern::Pattern;
use crate::peer::connection::ConnectionError;
use crate::peer::message::{AtomicState, Closed, Fill, Open, Opened, Request, Response, Verify, WindowLayout};
use crate::result::CellPath;
use crate::window::Memory;

/// An open cell with its queue pairs, one group per lane.
struct ServedCell<'a> {
    session: &'a Session<'a>,
    open: &'a OpenCell,
    unconnected: Option<Vec<Box<dyn UnconnectedEnd<'a> + 'a>>>,
    connected: Vec<Box<dyn ConnectedEnd + 'a>>,
}

/// Action of the server after a request.
pub(super) enum Answer {
    Send(Result<Response, CellError>),
    /// The client closed the cell.
    Close,
    /// The kernel requested the release of the function before the client sent the next request.
    Removed,
    /// The protocol does not allow the request here.
    Unexpected,
}

/// Reason why the server stops serving a cell.
#[derive(PartialEq, Eq)]
enum End {
    /// The client closed the cell.
    Closed,
    /// The kernel requested the release of the source's function.
    Removed,
}

/// Opens a cell, serves it, and closes it.
pub(super) fn run(session: &mut Session<'_>, open: &Open) -> Result<(), ConnectionError> {
    let mut path = None;
    let cell = match open_cell(session, open, &mut path) {
        Ok(cell) => cell,
        Err(error) => return session.send_failure(error, path),
    };
    // Make the queues deep enough for every mode, because the server does not know which mode the client uses.
    let depth = open.depth.max(PING_PONG_DEPTH);
    let settings = EndSettings { depth, queues: open.queue_pairs, receives: uses_receives(cell.op) };
    let ends = match (0..open.lanes).map(|_| cell.registration.end(settings)).collect::<Result<Vec<_>, _>>() {
        Ok(ends) => ends,
        Err(error) => return session.send_failure(error.into(), path),
    };
    let source = cell.buffer.origin().clone();
    let endpoint = Endpoint::of_lanes(ends.iter().map(|end| end.endpoint()));
    let (Some(endpoint), Some(window)) = (endpoint, WindowLayout::of(&cell.layouts)) else {
        return unexpected_request(session.peer);
    };
    let mechanism = cell.registration.mechanism().to_owned();
    session.peer.send(&Response::Opened(Box::new(Opened { source: source.clone(), mechanism, window, endpoint })))?;
    let end = ServedCell { session, open: &cell, unconnected: Some(ends), connected: Vec::new() }.serve()?;
    if end == End::Removed
        && let Some(failure) = session.removal()
    {
        // The kernel waits until the function is closed.
        drop(cell);
        session.close_removed();
        return refuse_until_closed(session, &failure);
    }
    let unregistered = cell.registration.unregister();
    let functions: Vec<Bdf> = source.bdf.into_iter().chain(session.device.info().bdf).collect();
    let mut path = path.unwrap_or_else(CellPath::unknown);
    let faults = session.routes.faults(&mut path, &functions);
    match unregistered {
        Ok(_release) => session.peer.send(&Response::Closed(Box::new(Closed { path, faults }))),
        Err(error) => session.send_failure(error.into(), Some(path)),
    }
}

/// Replies to every request with the failure until the client closes the cell, because the client learns of a failure only from
/// a reply.
fn refuse_until_closed(session: &Session<'_>, failure: &Failure) -> Result<(), ConnectionError> {
    loop {
        let request = session.peer.receive(session.server.interrupt)?;
        if matches!(request, Request::Open(_) | Request::Alive) {
            return unexpected_request(session.peer);
        }
        session.send_failure(failure.clone().into(), None)?;
        if matches!(request, Request::Close) {
            return Ok(());
        }
    }
}

impl<'a> ServedCell<'a> {
    /// Serves requests until the client closes the cell, or the kernel requests the release of the source's function.
    fn serve(mut self) -> Result<End, ConnectionError> {
        let (peer, interrupt) = (self.session.peer, &self.session.interrupt);
        let uses_receives = uses_receives(self.open.op);
        let mut failed: Option<CellError> = None;
        let mut completions: Vec<Completion> = Vec::new();
        loop {
            // While sends arrive, polling posts new receive work requests.
            let request = if uses_receives && failed.is_none() && !self.connected.is_empty() {
                if let Err(error) = self.connected.iter_mut().try_for_each(|end| end.poll(&mut completions)) {
                    failed = Some(error.into());
                }
                if interrupt.ends_run() {
                    return Err(ConnectionError::Interrupted);
                }
                if interrupt.is_set() {
                    return Ok(End::Removed);
                }
                let Some(request) = peer.try_receive()? else {
                    std::thread::yield_now();
                    continue;
                };
                request
            } else {
                let Some(request) = peer.receive_briefly(interrupt)? else {
                    if self.session.removal().is_some() {
                        return Ok(End::Removed);
                    }
                    continue;
                };
                request
            };
            let answer = match (request, failed.take()) {
                (Request::Close, _) => Answer::Close,
                (Request::Open(_) | Request::Alive | Request::Rest, _) => Answer::Unexpected,
                (_, Some(error)) => Answer::Send(Err(error)),
                (request, None) => self.answer(request)?,
            };
            match answer {
                Answer::Close => return Ok(End::Closed),
                Answer::Removed => return Ok(End::Removed),
                Answer::Unexpected => return unexpected_request(peer).map(|()| End::Closed),
                Answer::Send(Ok(response)) => peer.send(&response)?,
                Answer::Send(Err(error)) => self.session.send_failure(error, None)?,
            }
        }
    }

    fn answer(&mut self, request: Request) -> Result<Answer, ConnectionError> {
        Ok(match request {
            Request::Connect(endpoint) => self.connect(&endpoint),
            Request::Fill(fill) => self.fill(fill),
            Request::Verify(verify) => self.verify(verify),
            Request::Echo(echo) => posting::echo(self.session, self.open, &mut self.connected, &echo)?,
            Request::Post(post) => posting::post(self.session, self.open, &mut self.connected, &post)?,
            Request::Open(_) | Request::Alive | Request::Rest | Request::Close => Answer::Unexpected,
        })
    }

    fn connect(&mut self, endpoint: &Endpoint) -> Answer {
        let OpenCell { op, lanes, .. } = *self.open;
        let (Some(ends), Some(theirs)) = (self.unconnected.take(), endpoint.lanes(lanes)) else {
            return Answer::Unexpected;
        };
        let lanes = ends.into_iter().zip(&theirs).zip(self.open.windows_of_stream(0));
        let connected = lanes.map(|((end, theirs), layout)| {
            let mut end = end.connect(theirs)?;
            if uses_receives(op) {
                end.receive(&layout.near_offsets(), layout.transfer(op, 0).length_bytes)?;
            }
            Ok(end)
        });
        let connected = connected.collect::<Result<_, peerpath_importers::Error>>().map(|ends| self.connected = ends);
        Answer::Send(connected.map(|()| Response::Connected).map_err(CellError::from))
    }

    fn fill(&self, fill: Fill) -> Answer {
        let Some(layout) = self.open.window(fill.window) else { return Answer::Unexpected };
        let (view, pattern) = (&**self.open.buffer.view(), Pattern::new(fill.seed));
        let filled = match fill.words.filter(|_| self.open.op.is_atomic()) {
            Some(AtomicState { first, .. }) => atomic_words::set(&layout.with_first_word(first), view, pattern),
            None => Memory::served(layout, view).fill(pattern),
        };
        Answer::Send(filled.map(|()| Response::Filled).map_err(CellError::from))
    }

    fn verify(&self, verify: Verify) -> Answer {
        let Some(layout) = self.open.window(verify.window) else { return Answer::Unexpected };
        let view = &**self.open.buffer.view();
        let (slots, rest) = (Pattern::new(verify.slots_seed), Pattern::new(verify.rest_seed));
        let verified = match verify.words.filter(|_| self.open.op.is_atomic()) {
            Some(AtomicState { first, operations }) => {
                atomic_words::verify(&layout.with_first_word(first), view, rest, operations)
            }
            None => Memory::served(layout, view).verify(verify.used, slots, rest),
        };
        let transport = self.session.connection.transport;
        let verified = verified.map_err(|error| CellError::unverified(error, transport));
        Answer::Send(verified.map(|()| Response::Verified))
    }
}

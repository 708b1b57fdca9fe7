//! The server of a run between two hosts: it serves its sources to a client, cell by cell, and says what became of them
//! here. It moves nothing itself, unless the peer asks it to answer or to post as well.

mod posting;

use std::sync::Arc;

use peerpath_exporter::{Buffer, Exporter, OpenOptions, Source};
use peerpath_host::Options;
use peerpath_importers::{
    Completion, ConnectedEnd, Device, EndSettings, Endpoint, Op, QueuePairOptions, Registration, Role, UnconnectedEnd,
};
use peerpath_paths::{Bdf, Explanation, Tree};

use super::cell_error::{CellError, Unmeasured};
use super::hold::{self, Held};
use super::lane::receives;
use super::shape::{Shape, mapped_at_once, named};
use super::transfer::{impossible, layouts};
use crate::atomic_words;
use crate::environment::Host;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::layout::Layout;
use crate::measure::{Flow, PING_PONG_DEPTH};
use crate::pattern::Pattern;
use crate::peer::connection::ConnectionError;
use crate::peer::listener::ServerConnection;
use crate::peer::message::{Closed, Failed, Offer, Open, Opened, Request, Response, WindowAt, WordsAt};
use crate::plan::{ATOMIC_BYTES, CellSpec, Mechanism, Mode, Target, within_bounds};
use crate::result::{CellPath, CellTarget, Environment, Outcome, Tool};
use crate::route::Routes;
use crate::window::Memory;

/// Many regions make a long message.
const MOST_RANGES: u32 = 4096;

/// The memory to serve, and the device to serve it through.
pub struct Server<'a> {
    /// The memory.
    pub sources: &'a [Source],
    /// The RDMA device.
    pub target: &'a Target,
    /// The program that serves, for the peer's record.
    pub tool: &'a Tool,
    /// How sources are opened.
    pub open: &'a OpenOptions,
    /// How functions without a driver are bound, and where locks are kept.
    pub changes: &'a Options,
    /// How queue pairs are connected, as far as the peer does not ask for it.
    pub connection: &'a QueuePairOptions,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
}

impl Server<'_> {
    /// Finds out now, and not when a peer asks, that something cannot be served.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(&self) -> Result<(), Failure> {
        self.target.importer.open(&self.target.address, self.connection)?;
        for source in self.sources {
            hold::source(source, self.open, self.changes)?;
        }
        Ok(())
    }

    /// Serves a peer until it goes. Whatever it had open is given back then.
    ///
    /// # Errors
    /// How the connection ended, where the client did not close it.
    pub fn session(&self, peer: &ServerConnection) -> Result<(), ConnectionError> {
        let device = match self.target.importer.open(&self.target.address, self.connection) {
            Ok(device) => device,
            Err(error) => {
                let failure = Failure::of(&error);
                return peer.send(&Response::Refused { why: format!("{}: {}", failure.what, failure.explanation.why) });
            }
        };
        let (host, routes) = (Host::new(Tree::live()), Routes::live());
        let connection = self.connection.clone();
        let mut session = Session { server: self, peer, device, connection, host, routes, exporter: None };
        peer.send(&Response::Offer(Box::new(session.offer())))?;
        loop {
            match peer.receive(self.interrupt)? {
                Request::Open(open) => session.cell(&open)?,
                _ => return unexpected_request(peer),
            }
        }
    }
}

fn unexpected_request(peer: &ServerConnection) -> Result<(), ConnectionError> {
    peer.send(&Response::Refused { why: "unexpected request".to_owned() })?;
    Err(ConnectionError::Unexpected)
}

struct Session<'a> {
    server: &'a Server<'a>,
    peer: &'a ServerConnection,
    device: Arc<dyn Device>,
    /// As which it is open.
    connection: QueuePairOptions,
    host: Host,
    routes: Routes,
    /// The source of the last cell: it stays open for the next one.
    exporter: Option<(String, Held<Box<dyn Exporter>>)>,
}

/// A cell whose buffer is registered.
struct Ready {
    op: Op,
    buffer: Arc<Buffer>,
    registration: Box<dyn Registration>,
    /// That of each lane; where both sides post, both of each lane.
    layouts: Vec<Layout>,
    /// How they are used.
    flow: Flow,
    lanes: usize,
}

impl Ready {
    fn window(&self, window: u32) -> Option<&Layout> {
        self.layouts.get(window as usize)
    }

    /// The first window of each lane, or the second one, where there is one.
    fn windows(&self, place: usize) -> impl Iterator<Item = &Layout> {
        self.layouts.iter().skip(place).step_by(self.layouts.len() / self.lanes)
    }
}

impl Session<'_> {
    fn offer(&self) -> Offer {
        let Server { sources, target, .. } = self.server;
        let info = self.device.info();
        let mut environment = Environment { soft_rdma: info.soft_rdma, ..self.host.environment() };
        for bdf in sources.iter().filter_map(|source| named(source).bdf).chain(info.bdf) {
            environment.emulated |= self.host.is_emulated(bdf);
            environment.devices.retain(|device| device.bdf != bdf);
            environment.devices.push(self.routes.device(bdf, Some(info)));
        }
        environment.devices.sort_by_key(|device| device.bdf);
        Offer {
            tool: self.server.tool.clone(),
            environment,
            target: CellTarget { kind: target.importer.kind().into(), device: info.name.clone(), bdf: info.bdf },
            sources: sources.iter().map(ToString::to_string).collect(),
        }
    }

    /// A cell from its opening to its closing.
    fn cell(&mut self, open: &Open) -> Result<(), ConnectionError> {
        let mut path = None;
        let ready = match self.ready(open, &mut path) {
            Ok(ready) => ready,
            Err(error) => return self.fail(error, path),
        };
        let Ready { registration, .. } = &ready;
        // Enough for whichever mode the peer has in mind.
        let depth = open.depth.max(PING_PONG_DEPTH);
        let settings = EndSettings { depth, queues: open.queue_pairs, receives: receives(ready.op) };
        let ends = match (0..open.lanes).map(|_| registration.end(settings)).collect::<Result<Vec<_>, _>>() {
            Ok(ends) => ends,
            Err(error) => return self.fail(error.into(), path),
        };
        let source = ready.buffer.origin().clone();
        // A cell has a lane at least.
        let endpoint = Endpoint::of_lanes(ends.iter().map(|end| end.endpoint()));
        let (Some(endpoint), Some(window)) = (endpoint, WindowAt::of(&ready.layouts)) else {
            return unexpected_request(self.peer);
        };
        let mechanism = registration.mechanism().to_owned();
        self.peer.send(&Response::Opened(Box::new(Opened { source: source.clone(), mechanism, window, endpoint })))?;
        self.serve_cell(&ready, ends)?;
        let unregistered = ready.registration.unregister();
        let functions: Vec<Bdf> = source.bdf.into_iter().chain(self.device.info().bdf).collect();
        let mut path = path.unwrap_or_else(CellPath::unseen);
        let faults = self.routes.faults(&mut path, &functions);
        match unregistered {
            Ok(_remains) => self.peer.send(&Response::Closed(Box::new(Closed { path, faults }))),
            Err(error) => self.fail(error.into(), Some(path)),
        }
    }

    /// Exports and registers what is asked for.
    fn ready(&mut self, open: &Open, path: &mut Option<CellPath>) -> Result<Ready, CellError> {
        let Open { size_bytes, depth, queue_pairs: qps, lanes: threads, ranges, .. } = *open;
        self.reopen(open)?;
        let offered = self.server.target.importer.capabilities().ops.iter().copied();
        let Some(op) = offered.filter(|spec| is_transfer(spec.role)).find(|spec| spec.op.as_str() == open.op) else {
            return Err(CellError::waived(
                format!("{} has no transfer {:?}", self.device.info().name, open.op),
                Explanation::uncaused("its importer does not offer it", "choose an operation of this importer"),
            ));
        };
        // What is a word has the length of one.
        let size_bytes = if op.op.is_atomic() { ATOMIC_BYTES } else { size_bytes };
        if !within_bounds(size_bytes, depth, qps, threads, ranges) || ranges.is_some_and(|count| count > MOST_RANGES) {
            return Err(CellError::waived(
                "the server does not serve so large a cell",
                Explanation::uncaused(
                    format!(
                        "a peer gets at most 1 GiB an operation, a depth of 65536, 4096 threads and {MOST_RANGES} ranges"
                    ),
                    "choose a smaller size or depth, or fewer threads or ranges",
                ),
            ));
        }
        let mechanism = if open.mr_per_range { Mechanism::MrPerRange } else { Mechanism::Auto };
        let mode = Mode::Completion;
        let spec = CellSpec {
            asked: None,
            op: op.op,
            spec: Some(op),
            mode,
            size_bytes,
            ranges,
            mechanism,
            depth,
            qps,
            threads,
            bidirectional: open.both_ways,
        };
        if let Some(why) = impossible(&spec) {
            return Err(CellError::waived(format!("there is no such {}", spec.op), why));
        }
        let source = self.find(&open.source)?;
        let (_, exporter) = self.exporter.take_if(|(name, _)| *name == open.source).map_or_else(
            || Ok((open.source.clone(), hold::source(&source, self.server.open, self.server.changes)?)),
            Ok::<_, Failure>,
        )?;
        let exporter = &**self.exporter.insert((open.source.clone(), exporter)).1;
        // Drivers and domains change when a function is opened.
        self.routes.refresh();
        let origin = exporter.origin().clone();
        let shape = Shape::of(&origin, &spec)?;
        let hearsay = matches!(source, Source::Socket { .. });
        let info = self.device.info();
        let path =
            path.insert(self.routes.predicted(None, &origin, mapped_at_once(&origin, &spec), Some(info), hearsay));
        let buffer = shape.export(exporter)?;
        let layouts = layouts(&spec, &buffer)?;
        let register = || Arc::clone(&self.device).register(Arc::clone(&buffer));
        let registration = self.routes.observed(path, buffer.origin(), info, register)?;
        let flow = Flow { queues: qps, ..Flow::simple(depth) };
        Ok(Ready { op: op.op, buffer, registration, layouts, flow, lanes: threads as usize })
    }

    fn find(&self, name: &str) -> Result<Source, CellError> {
        self.server.sources.iter().find(|source| source.to_string() == name).cloned().ok_or_else(|| {
            CellError::failed(
                "the server does not serve this source",
                Explanation::uncaused(
                    "a client gets the sources that the server was started with",
                    "add this source there",
                ),
            )
        })
    }

    /// Opens the device anew where the peer asks for queue pairs of another kind than before.
    fn reopen(&mut self, open: &Open) -> Result<(), CellError> {
        let Some(connection) = open.connection.within(self.server.connection) else {
            return Err(CellError::waived(
                "there are no such queue pairs",
                Explanation::uncaused(
                    "service levels go from 0 to 15, and no device takes so much inline",
                    "choose another service level, or fewer inline bytes",
                ),
            ));
        };
        if connection != self.connection {
            let Target { importer, address } = self.server.target;
            self.device = importer.open(address, &connection)?;
            self.connection = connection;
        }
        Ok(())
    }

    /// Does what the peer asks of an opened cell, until it is to be closed.
    fn serve_cell(&self, ready: &Ready, ends: Vec<Box<dyn UnconnectedEnd<'_> + '_>>) -> Result<(), ConnectionError> {
        let mut loose = Some(ends);
        let mut joined: Vec<Box<dyn ConnectedEnd + '_>> = Vec::new();
        // Receives have to be posted again and again while sends arrive.
        let receiving = receives(ready.op);
        let mut broken: Option<CellError> = None;
        let mut done: Vec<Completion> = Vec::new();
        loop {
            let request = if receiving && broken.is_none() && !joined.is_empty() {
                if let Err(error) = joined.iter_mut().try_for_each(|end| end.poll(&mut done)) {
                    broken = Some(error.into());
                }
                if self.server.interrupt.is_set() {
                    return Err(ConnectionError::Interrupted);
                }
                let Some(request) = self.peer.try_receive()? else {
                    std::thread::yield_now();
                    continue;
                };
                request
            } else {
                self.peer.receive(self.server.interrupt)?
            };
            let answer = match (request, broken.take()) {
                (Request::Close, _) => return Ok(()),
                (Request::Open(_) | Request::Alive | Request::Rest, _) => return unexpected_request(self.peer),
                (_, Some(error)) => Err(error),
                (Request::Connect(endpoint), None) => {
                    let theirs = endpoint.lanes(ready.lanes);
                    let (Some(ends), Some(theirs)) = (loose.take(), theirs) else {
                        return unexpected_request(self.peer);
                    };
                    let lanes = ends.into_iter().zip(&theirs).zip(ready.windows(0));
                    let connected = lanes.map(|((end, theirs), layout)| {
                        let mut end = end.connect(theirs)?;
                        if receiving {
                            // A size beyond 4 GiB is out of bounds.
                            end.receive(&layout.places(), layout.transfer(ready.op, 0).length_bytes)?;
                        }
                        Ok(end)
                    });
                    connected.collect::<Result<_, peerpath_importers::Error>>().map_err(CellError::from).map(|ends| {
                        joined = ends;
                        Response::Connected
                    })
                }
                (Request::Fill(fill), None) => {
                    let Some(layout) = ready.window(fill.window) else { return unexpected_request(self.peer) };
                    let (view, around) = (&**ready.buffer.view(), Pattern::new(fill.seed));
                    let filled = match fill.words.filter(|_| ready.op.is_atomic()) {
                        Some(WordsAt { first, .. }) => atomic_words::set(&layout.with_words_from(first), view, around),
                        None => Memory::served(layout, view).fill(around),
                    };
                    filled.map(|()| Response::Filled).map_err(CellError::from)
                }
                (Request::Verify(asked), None) => {
                    let Some(layout) = ready.window(asked.window) else { return unexpected_request(self.peer) };
                    let view = &**ready.buffer.view();
                    let (slots, rest) = (Pattern::new(asked.slots_seed), Pattern::new(asked.rest_seed));
                    let verified = match asked.words.filter(|_| ready.op.is_atomic()) {
                        Some(WordsAt { first, operations }) => {
                            atomic_words::have(&layout.with_words_from(first), view, rest, operations)
                        }
                        None => Memory::served(layout, view).verify(asked.used, slots, rest),
                    };
                    let transport = self.connection.transport;
                    verified.map(|()| Response::Verified).map_err(|error| CellError::unverified(error, transport))
                }
                (Request::Echo(echo), None) => match self.echo(ready, &mut joined, &echo)? {
                    Some(answer) => answer,
                    None => return Ok(()),
                },
                (Request::Post(post), None) => match self.post(ready, &mut joined, &post)? {
                    Some(answer) => answer,
                    None => return Ok(()),
                },
            };
            match answer {
                Ok(answer) => self.peer.send(&answer)?,
                Err(error) => self.fail(error, None)?,
            }
        }
    }

    /// Says why something was not done.
    fn fail(&self, error: CellError, path: Option<CellPath>) -> Result<(), ConnectionError> {
        let CellError::Unmeasured(Unmeasured { outcome, reason, explanation }) = error else {
            return Err(ConnectionError::Interrupted);
        };
        debug_assert_ne!(outcome, Outcome::Passed);
        let failed = Failed { path, ..Failed::new(outcome, reason, explanation) };
        self.peer.send(&Response::Failed(Box::new(failed)))
    }
}

fn is_transfer(role: Role) -> bool {
    matches!(role, Role::Transfer(_))
}

//! The passive side of a run between two hosts: it lends its sources to a peer, cell by cell, and says what became of them
//! here. It moves nothing itself.

use std::sync::Arc;

use peerpath_exporter::{Buffer, Exporter, OpenOptions, Source};
use peerpath_importers::{Connection, Device, Op, Passive, Registration, Role};
use peerpath_paths::{Bdf, Explanation, Tree};

use super::ended::{Ended, Without};
use super::shape::{Shape, mapped_at_once, named};
use super::tool;
use super::transfer::layouts;
use crate::environment::Host;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::layout::Layout;
use crate::pattern::Pattern;
use crate::peer::connection::Lost;
use crate::peer::message::{Answer, Closed, Failed, Offer, Open, Opened, Request, WindowAt};
use crate::peer::serve::Conversation;
use crate::plan::{CellSpec, Mechanism, Mode, Target, within_bounds};
use crate::result::{CellPath, CellTarget, Environment, Outcome};
use crate::route::Routes;
use crate::window::Memory;

/// Many regions make a long message.
const MOST_RANGES: u32 = 4096;

/// What is lent, and through which device.
pub struct Lender<'a> {
    /// The memory.
    pub sources: &'a [Source],
    /// The RDMA device.
    pub target: &'a Target,
    /// How sources are opened.
    pub open: &'a OpenOptions,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
}

impl Lender<'_> {
    /// Finds out now, and not when a peer asks, that something cannot be lent.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(&self) -> Result<(), Failure> {
        self.target.importer.open(&self.target.address, &Connection::default())?;
        for source in self.sources {
            source.open(self.open)?;
        }
        Ok(())
    }

    /// Serves a peer until it goes. Whatever it had open is given back then.
    ///
    /// # Errors
    /// How the conversation ended, where the peer did not just close it.
    pub fn session(&self, peer: &Conversation) -> Result<(), Lost> {
        let device = match self.target.importer.open(&self.target.address, &Connection::default()) {
            Ok(device) => device,
            Err(error) => {
                let failure = Failure::of(&error);
                return peer.say(&Answer::Refused { why: format!("{}: {}", failure.what, failure.explanation.why) });
            }
        };
        let (host, routes) = (Host::new(Tree::live()), Routes::live());
        let mut session = Session { lender: self, peer, device, host, routes, exporter: None };
        peer.say(&Answer::Offer(Box::new(session.offer())))?;
        loop {
            match peer.hear(self.interrupt)? {
                Request::Open(open) => session.cell(&open)?,
                _ => return out_of_turn(peer),
            }
        }
    }
}

fn out_of_turn(peer: &Conversation) -> Result<(), Lost> {
    peer.say(&Answer::Refused { why: "that was not to be asked now".to_owned() })?;
    Err(Lost::OutOfTurn)
}

struct Session<'a> {
    lender: &'a Lender<'a>,
    peer: &'a Conversation,
    device: Arc<dyn Device>,
    host: Host,
    routes: Routes,
    /// The source of the last cell: it stays open for the next one.
    exporter: Option<(String, Box<dyn Exporter>)>,
}

/// A cell whose buffer is registered.
struct Ready {
    op: Op,
    buffer: Arc<Buffer>,
    registration: Box<dyn Registration>,
    layout: Layout,
}

impl Session<'_> {
    fn offer(&self) -> Offer {
        let Lender { sources, target, .. } = self.lender;
        let info = self.device.info();
        let mut environment = Environment { soft_rdma: info.soft_rdma, ..self.host.environment() };
        for bdf in sources.iter().filter_map(|source| named(source).bdf).chain(info.bdf) {
            environment.emulated |= self.host.is_emulated(bdf);
            environment.devices.retain(|device| device.bdf != bdf);
            environment.devices.push(self.routes.device(bdf, Some(info)));
        }
        environment.devices.sort_by_key(|device| device.bdf);
        Offer {
            tool: tool(),
            environment,
            target: CellTarget { kind: target.importer.kind().into(), device: info.name.clone(), bdf: info.bdf },
            sources: sources.iter().map(ToString::to_string).collect(),
        }
    }

    /// A cell from its opening to its closing.
    fn cell(&mut self, open: &Open) -> Result<(), Lost> {
        let mut path = None;
        let ready = match self.ready(open, &mut path) {
            Ok(ready) => ready,
            Err(ended) => return self.fail(ended, path),
        };
        let Ready { registration, .. } = &ready;
        let mut passive = match registration.passive(open.depth, open.queue_pairs) {
            Ok(passive) => passive,
            Err(error) => return self.fail(error.into(), path),
        };
        let source = ready.buffer.origin().clone();
        self.peer.say(&Answer::Opened(Box::new(Opened {
            source: source.clone(),
            mechanism: registration.mechanism().to_owned(),
            window: WindowAt {
                length_bytes: ready.layout.length_bytes(),
                slot_bytes: open.size_bytes,
                slots: ready.layout.slot_offsets().to_vec(),
            },
            endpoint: passive.endpoint().clone(),
        })))?;
        self.lend(&ready, &mut *passive)?;
        drop(passive);
        let unregistered = ready.registration.unregister();
        let functions: Vec<Bdf> = source.bdf.into_iter().chain(self.device.info().bdf).collect();
        let mut path = path.unwrap_or_else(CellPath::unseen);
        let faults = self.routes.faults(&mut path, &functions);
        match unregistered {
            Ok(_remains) => self.peer.say(&Answer::Closed(Box::new(Closed { path, faults }))),
            Err(error) => self.fail(error.into(), Some(path)),
        }
    }

    /// Exports and registers what is asked for.
    fn ready(&mut self, open: &Open, path: &mut Option<CellPath>) -> Result<Ready, Ended> {
        let Open { size_bytes, depth, queue_pairs: qps, ranges, .. } = *open;
        let offered = self.lender.target.importer.ops().iter().copied();
        let Some(op) = offered.filter(|spec| is_transfer(spec.role)).find(|spec| spec.op.as_str() == open.op) else {
            return Err(Ended::waived(
                format!("{} has no transfer {:?}", self.device.info().name, open.op),
                Explanation::uncaused("its importer does not offer it", "see `peerpath run --help` for what it offers"),
            ));
        };
        if op.op.is_atomic() {
            return Err(Ended::waived(
                "atomic operations are not lent for",
                Explanation::uncaused("they are measured on one host", "leave them out"),
            ));
        }
        if !within_bounds(size_bytes, depth, qps, ranges) || ranges.is_some_and(|count| count > MOST_RANGES) {
            return Err(Ended::waived(
                "so large a cell is not lent",
                Explanation::uncaused(
                    format!("a peer gets at most 1 GiB an operation, a depth of 65536 and {MOST_RANGES} ranges"),
                    "choose a smaller --size, --depth or --ranges",
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
            threads: 1,
            bidirectional: false,
        };
        let source = self.find(&open.source)?;
        let (_, exporter) = self.exporter.take_if(|(name, _)| *name == open.source).map_or_else(
            || Ok((open.source.clone(), source.open(self.lender.open)?)),
            Ok::<_, peerpath_exporter::Error>,
        )?;
        let exporter = &*self.exporter.insert((open.source.clone(), exporter)).1;
        // Drivers and domains change when a function is opened.
        self.routes.refresh();
        let origin = exporter.origin().clone();
        let shape = Shape::of(&origin, &spec)?;
        let hearsay = matches!(source, Source::Socket { .. });
        let info = self.device.info();
        let path =
            path.insert(self.routes.predicted(None, &origin, mapped_at_once(&origin, &spec), Some(info), hearsay));
        let buffer = shape.export(exporter)?;
        let layout = layouts(&spec, &buffer)?.swap_remove(0);
        let register = || Arc::clone(&self.device).register(Arc::clone(&buffer));
        let registration = self.routes.observed(path, buffer.origin(), info, register)?;
        Ok(Ready { op: op.op, buffer, registration, layout })
    }

    fn find(&self, name: &str) -> Result<Source, Ended> {
        self.lender.sources.iter().find(|source| source.to_string() == name).cloned().ok_or_else(|| {
            Ended::failed(
                "this source is not lent",
                Explanation::uncaused("a peer gets what `serve` was told to lend", "name it there with --from"),
            )
        })
    }

    /// Does what the peer asks of an opened cell, until it is to be closed.
    fn lend(&self, ready: &Ready, passive: &mut dyn Passive) -> Result<(), Lost> {
        let memory = Memory::lent(&ready.layout, &**ready.buffer.view());
        // Receives have to be posted again and again while sends arrive.
        let mut receiving = false;
        let mut broken: Option<Ended> = None;
        loop {
            let request = if receiving {
                if let Err(error) = passive.attend() {
                    (receiving, broken) = (false, Some(error.into()));
                }
                if self.lender.interrupt.is_set() {
                    return Err(Lost::Interrupted);
                }
                let Some(request) = self.peer.heard()? else {
                    std::thread::yield_now();
                    continue;
                };
                request
            } else {
                self.peer.hear(self.lender.interrupt)?
            };
            let done = match (request, broken.take()) {
                (Request::Close, _) => return Ok(()),
                (Request::Open(_) | Request::Alive, _) => return out_of_turn(self.peer),
                (_, Some(ended)) => Err(ended),
                (Request::Connect(endpoint), None) => {
                    let mut connected = passive.connect(&endpoint);
                    if matches!(ready.op, Op::Send | Op::WriteImm) {
                        // A size beyond 4 GiB is out of bounds.
                        let length_bytes = ready.layout.transfer(ready.op, 0).length_bytes;
                        connected = connected.and_then(|()| passive.receive(ready.layout.slot_offsets(), length_bytes));
                        receiving = connected.is_ok();
                    }
                    connected.map(|()| Answer::Connected).map_err(Ended::from)
                }
                (Request::Fill(fill), None) => {
                    memory.fill(Pattern::new(fill.seed)).map(|()| Answer::Filled).map_err(Ended::from)
                }
                (Request::Verify(asked), None) => {
                    let (slots, rest) = (Pattern::new(asked.slots_seed), Pattern::new(asked.rest_seed));
                    memory.verify(asked.used, slots, rest).map(|()| Answer::Verified).map_err(Ended::from)
                }
            };
            match done {
                Ok(answer) => self.peer.say(&answer)?,
                Err(ended) => self.fail(ended, None)?,
            }
        }
    }

    /// Says why something was not done.
    fn fail(&self, ended: Ended, path: Option<CellPath>) -> Result<(), Lost> {
        let Ended::Without(Without { outcome, reason, explanation }) = ended else { return Err(Lost::Interrupted) };
        debug_assert_ne!(outcome, Outcome::Passed);
        let failed = Failed { path, ..Failed::new(outcome, reason, explanation) };
        self.peer.say(&Answer::Failed(Box::new(failed)))
    }
}

fn is_transfer(role: Role) -> bool {
    matches!(role, Role::Transfer(_))
}

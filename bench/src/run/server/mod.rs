//! The server of a run between two hosts: serves its sources to a client, one cell after the other. It transfers data only if
//! the client asks it to reply to messages (ping-pong) or to post transfers as well (bidirectional cells).

mod cell;
mod open_cell;
mod posting;

use std::sync::Arc;

use peerpath_exporter::{Exporter, OpenOptions, Source};
use peerpath_host::Options;
use peerpath_importers::{Device, QueuePairOptions};
use peerpath_paths::{Tree, printable};

use super::cell_error::CellError;
use super::export_spec::unopened;
use super::held::{self, Held};
use super::path_checks::without_refusal_of_revoked;
use super::removed::{LegRemovals, Removed};
use crate::environment::Host;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::peer::connection::ConnectionError;
use crate::peer::listener::ServerConnection;
use crate::peer::message::{Failed, Offer, Request, Response};
use crate::plan::Target;
use crate::result::{CellPath, CellTarget, Environment, Outcome, Tool};
use crate::route::Routes;

/// The memory to serve, and the RDMA device that accesses it.
pub struct Server<'a> {
    /// Sources that clients can use.
    pub sources: &'a [Source],
    /// RDMA device that accesses the sources.
    pub target: &'a Target,
    /// The program that serves, for the client's result.
    pub tool: &'a Tool,
    /// Options for opening sources.
    pub open: &'a OpenOptions,
    /// Options for binding functions without a driver, and the folder of locks.
    pub changes: &'a Options,
    /// Queue pair options of the server. A client replaces the options that both sides must share.
    pub connection: &'a QueuePairOptions,
    /// Flag that ends the server.
    pub interrupt: &'a Interrupt,
}

impl Server<'_> {
    /// Opens the device and each source once, so that errors appear before a client connects.
    ///
    /// # Errors
    /// Opening the device or a source fails.
    pub fn check(&self) -> Result<(), Failure> {
        self.target.importer.open(&self.target.address, self.connection)?;
        for source in self.sources {
            held::open_source(source, self.open, self.changes)?;
        }
        Ok(())
    }

    /// Serves a client until it closes the connection. Then releases everything that was opened for the client.
    ///
    /// # Errors
    /// The connection failed before the client closed it.
    pub fn session(&self, peer: &ServerConnection) -> Result<(), ConnectionError> {
        let device = match self.target.importer.open(&self.target.address, self.connection) {
            Ok(device) => device,
            Err(error) => {
                let failure = Failure::of(&error);
                return peer.send(&Response::Refused { why: failure.to_string() });
            }
        };
        let (host, routes) = (Host::new(Tree::live()), Routes::live());
        let connection = self.connection.clone();
        let (interrupt, removed) = (self.interrupt.of_part(), Removed::default());
        let mut session =
            Session { server: self, peer, device, connection, host, routes, exporter: None, interrupt, removed };
        peer.send(&Response::Offer(Box::new(session.offer())))?;
        loop {
            session.close_removed();
            match peer.receive_briefly(self.interrupt)? {
                None => {}
                Some(Request::Open(open)) => cell::run(&mut session, &open)?,
                Some(_) => return unexpected_request(peer),
            }
        }
    }
}

/// State of the server for one client, from its handshake to the end of its connection.
struct Session<'a> {
    server: &'a Server<'a>,
    peer: &'a ServerConnection,
    device: Arc<dyn Device>,
    /// Queue pair options with which the device is open.
    connection: QueuePairOptions,
    host: Host,
    routes: Routes,
    /// The source of the last cell. It stays open for the next cell.
    exporter: Option<(Source, Held<Box<dyn Exporter>>)>,
    /// Set by signals, and when the kernel requests the release of the open source's function.
    interrupt: Interrupt,
    removed: Removed,
}

impl Session<'_> {
    fn offer(&self) -> Offer {
        let Server { sources, target, .. } = self.server;
        let info = self.device.info();
        let mut environment = Environment { soft_rdma: info.soft_rdma, ..self.host.environment() };
        for bdf in sources.iter().filter_map(|source| unopened(source).bdf).chain(info.bdf) {
            environment.emulated |= self.host.is_emulated(bdf);
            environment.devices.retain(|device| device.bdf != bdf);
            environment.devices.push(self.routes.device(bdf, Some(info)));
        }
        environment.devices.sort_by_key(|device| device.bdf);
        Offer {
            tool: self.server.tool.clone(),
            environment,
            target: CellTarget { kind: target.importer.kind().into(), device: info.name.clone(), bdf: info.bdf },
            // The client shows these names, and sends one of them back.
            sources: sources.iter().map(|source| printable(&source.to_string())).collect(),
        }
    }

    /// Returns the failure of the open source's cells if the kernel requests the release of its function.
    fn removal(&self) -> Option<Failure> {
        let (source, exporter) = self.exporter.as_ref()?;
        let removals = LegRemovals { source: exporter.removal(), target: None };
        removals.failure(Some(source), self.server.target, &self.removed)
    }

    /// Closes the source if the kernel requests the release of its function, so that the removal can proceed.
    fn close_removed(&mut self) {
        if self.removal().is_some() {
            self.exporter = None;
            self.interrupt = self.server.interrupt.of_part();
        }
    }

    /// Sends the reason of a failure to the client.
    fn send_failure(&self, error: CellError, mut path: Option<CellPath>) -> Result<(), ConnectionError> {
        let error = self.removal().map_or(error, CellError::from);
        let CellError::Failure(failure) = error else { return Err(ConnectionError::Interrupted) };
        if let Some(path) = &mut path {
            without_refusal_of_revoked(path, &failure);
        }
        let Failure { what, explanation, severity, .. } = failure;
        let failed = Failed { path, ..Failed::new(Outcome::of(severity), what, explanation) };
        self.peer.send(&Response::Failed(Box::new(failed)))
    }
}

fn unexpected_request(peer: &ServerConnection) -> Result<(), ConnectionError> {
    peer.send(&Response::Refused { why: "unexpected request".to_owned() })?;
    Err(ConnectionError::Unexpected)
}

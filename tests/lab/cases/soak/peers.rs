//! Pairs of processes that act as two hosts, one pair after the other: undisturbed, with revoked memory, or with one
//! process killed. A surviving client must exit; a surviving server must serve the next client.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use super::ledger::Ledger;
use super::programs::{MAX_LIFE, REVOKED, account, describe, restore, signalled, transfers};
use super::revoker::Revoker;
use crate::chance::Chance;
use crate::command::{Ended, Running, start, until};
use crate::functions::{SWITCH_EXPORTER, driver};

const WHO: &str = "peers";
/// Ledger entry of runs in which the client or the server is killed.
const PEER_KILLED: &str = "peer-killed";
const AT: &str = "127.0.0.1:18551";
/// Sources and target of the server. The server binds the function and must restore it.
const OWN: &str = "--from 0000:06:00.0:2@0x0+0x1000000 --from host:16M --to verbs:rxe1";
const TOKEN: &str = "shared by both processes of the soak";

pub(super) fn run(socket: &Path, revoker: &Revoker, ledger: &Ledger, chance: &mut Chance) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN)?;
    let pair = Pair { folder: folder.path(), token: &token, ledger };
    match chance.below(6) {
        0 => pair.undisturbed(chance)?,
        1 => pair.revoked(socket, revoker, chance)?,
        2 | 3 => pair.client_dies(chance)?,
        _ => pair.server_dies(chance)?,
    }
    restore(ledger, WHO)
}

/// Timeout for a process to notice the loss of its peer. Long, because the machine is emulated.
const TIMEOUT: Duration = Duration::from_secs(120);

struct Pair<'a> {
    folder: &'a Path,
    token: &'a Path,
    ledger: &'a Ledger,
}

impl Pair<'_> {
    fn start_server(&self, what: &str) -> Result<Running, Failed> {
        let server = start(&format!("serve {what} --listen {AT} --token-file {}", self.token.display()))?;
        until("the server listens", || TcpStream::connect(AT).is_ok())?;
        Ok(server)
    }

    /// Starts a client with a new folder, which cannot contain the result of an earlier run.
    fn start_client(&self, name: &str, device: &str, what: &str) -> Result<(Running, PathBuf), Failed> {
        let out = self.folder.join(name);
        let arguments = format!(
            "run --peer {AT} --to verbs:{device} {what} --token-file {} --out {}",
            self.token.display(),
            out.display()
        );
        Ok((start(&arguments)?, out))
    }

    /// Runs a client until it exits.
    fn complete_run(&self, device: &str, chance: &mut Chance) -> Result<(Ended, PathBuf), Failed> {
        let (client, out) =
            self.start_client("whole", device, &format!("{} --iterations 100 --duration 1s", transfers(chance)))?;
        Ok((client.wait()?, out))
    }

    /// Stops a server after the run of its client has completed.
    fn stop(&self, mut server: Running) -> Result<(), Failed> {
        server.signal("TERM")?;
        let served = self.survivor(server)?;
        if served.code != Some(143) || !served.stderr.contains("done") {
            self.ledger.unexpected(WHO, format!("the server: {}", describe(&served)));
        }
        Ok(())
    }

    fn undisturbed(&self, chance: &mut Chance) -> Result<(), Failed> {
        let server = self.start_server(OWN)?;
        let (ended, out) = self.complete_run("rxe1", chance)?;
        account(WHO, self.ledger, &ended, &out, &|_| false)?;
        self.stop(server)
    }

    /// This process exports the served memory and revokes it at random times.
    fn revoked(&self, socket: &Path, revoker: &Revoker, chance: &mut Chance) -> Result<(), Failed> {
        let server = self.start_server(&format!("--from socket:{} --to verbs:rxe0", socket.display()))?;
        let begun = revoker.moment();
        let (ended, out) = self.complete_run("rxe0", chance)?;
        let excuse =
            |cell: &Value| revoker.has_revoked_since(begun) && REVOKED.iter().any(|cause| cell["cause"] == *cause);
        account(WHO, self.ledger, &ended, &out, &excuse)?;
        self.stop(server)
    }

    /// The server restores its function and serves the next client.
    fn client_dies(&self, chance: &mut Chance) -> Result<(), Failed> {
        let server = self.start_server(OWN)?;
        let (mut client, _) = self.start_client("cut", "rxe1", &format!("{} --duration 600s", transfers(chance)))?;
        std::thread::sleep(chance.time(MAX_LIFE));
        let (signal, codes) = signalled(chance);
        client.signal(signal)?;
        let ended = client.wait()?;
        if !codes.contains(&ended.code) {
            self.ledger.unexpected(PEER_KILLED, format!("SIG{signal} to the client: {}", describe(&ended)));
        }
        self.ledger.count(PEER_KILLED, format!("client SIG{signal}"));
        let begun = Instant::now();
        until("the server restores its function", || driver(SWITCH_EXPORTER).is_none())?;
        self.ledger.lasted(PEER_KILLED, begun.elapsed());
        let mut next = self.complete_run("rxe1", chance)?;
        // The server rejects other clients until it notices the loss of this one.
        while next.0.stderr.contains("another peer is being served") && begun.elapsed() < TIMEOUT {
            self.ledger.count(PEER_KILLED, "rejected");
            next = self.complete_run("rxe1", chance)?;
        }
        let (ended, out) = next;
        account(PEER_KILLED, self.ledger, &ended, &out, &|_| false)?;
        self.stop(server)
    }

    /// The client exits and reports the reason.
    fn server_dies(&self, chance: &mut Chance) -> Result<(), Failed> {
        let mut server = self.start_server(OWN)?;
        let (client, out) = self.start_client("cut", "rxe1", &format!("{} --duration 600s", transfers(chance)))?;
        std::thread::sleep(chance.time(MAX_LIFE));
        let (signal, codes) = signalled(chance);
        server.signal(signal)?;
        let served = server.wait()?;
        if !codes.contains(&served.code) {
            self.ledger.unexpected(PEER_KILLED, format!("SIG{signal} to the server: {}", describe(&served)));
        }
        self.ledger.count(PEER_KILLED, format!("server SIG{signal}"));
        let ended = self.survivor(client)?;
        let peer_lost = |cell: &Value| cell["cause"] == "peer-lost";
        account(PEER_KILLED, self.ledger, &ended, &out, &peer_lost)
    }

    /// Waits for the surviving process, which must exit without a signal.
    fn survivor(&self, mut running: Running) -> Result<Ended, Failed> {
        let begun = Instant::now();
        until("the surviving process has exited", || running.has_ended())?;
        self.ledger.lasted(PEER_KILLED, begun.elapsed());
        running.wait()
    }
}

//! Two processes as two hosts, one pair after the other: undisturbed, with the memory that is lent taken back, or with either of
//! them killed. Who is left has to end, or to go on, as if the other had said goodbye.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use super::chance::Chance;
use super::ledger::Ledger;
use super::programs::{LONGEST_LIFE, REVOKED, account, given_back, signalled, told, transfers};
use super::revoker::Revoker;
use crate::command::{Ended, Running, start, until};
use crate::functions::{SWITCH_EXPORTER, driver};

const WHO: &str = "peers";
/// A run one side of which is killed.
const BEREFT: &str = "bereft";
const AT: &str = "127.0.0.1:18551";
/// What the lender takes from the host, and has to give back.
const OWN: &str = "--from 0000:06:00.0:2@0x0+0x1000000 --from host:16M --to verbs:rxe1";
const TOKEN: &str = "known to both ends of the soak";

pub(super) fn run(socket: &Path, revoker: &Revoker, ledger: &Ledger, chance: &mut Chance) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN)?;
    let pair = Pair { folder: folder.path(), token: &token, ledger };
    match chance.below(6) {
        0 => pair.undisturbed(chance)?,
        1 => pair.taken_back(socket, revoker, chance)?,
        2 | 3 => pair.without_its_active_side(chance)?,
        _ => pair.without_its_passive_side(chance)?,
    }
    given_back(ledger, WHO)
}

/// Far away: the machine is emulated.
const PATIENCE: Duration = Duration::from_secs(120);

struct Pair<'a> {
    folder: &'a Path,
    token: &'a Path,
    ledger: &'a Ledger,
}

impl Pair<'_> {
    fn lend(&self, what: &str) -> Result<Running, Failed> {
        let lending = start(&format!("serve {what} --listen {AT} --token-file {}", self.token.display()))?;
        until("the lender listens", || TcpStream::connect(AT).is_ok())?;
        Ok(lending)
    }

    /// Another folder each time: the result of an earlier run is not this one's.
    fn post(&self, name: &str, device: &str, what: &str) -> Result<(Running, PathBuf), Failed> {
        let out = self.folder.join(name);
        let arguments = format!(
            "run --peer {AT} --to verbs:{device} {what} --token-file {} --out {}",
            self.token.display(),
            out.display()
        );
        Ok((start(&arguments)?, out))
    }

    /// A run that nobody ends.
    fn whole(&self, device: &str, chance: &mut Chance) -> Result<(Ended, PathBuf), Failed> {
        let (posting, out) =
            self.post("whole", device, &format!("{} --iterations 100 --duration 1s", transfers(chance)))?;
        Ok((posting.wait()?, out))
    }

    /// The end of a lender that has served somebody to the end.
    fn dismiss(&self, mut lending: Running) -> Result<(), Failed> {
        lending.signal("TERM")?;
        let lent = self.survivor(lending)?;
        if lent.code != Some(143) || !lent.stderr.contains("done") {
            self.ledger.unexpected(WHO, format!("the lender: {}", told(&lent)));
        }
        Ok(())
    }

    fn undisturbed(&self, chance: &mut Chance) -> Result<(), Failed> {
        let lending = self.lend(OWN)?;
        let (ended, out) = self.whole("rxe1", chance)?;
        account(WHO, self.ledger, &ended, &out, &|_| false)?;
        self.dismiss(lending)
    }

    /// What is lent belongs to this process, which takes it back at any time.
    fn taken_back(&self, socket: &Path, revoker: &Revoker, chance: &mut Chance) -> Result<(), Failed> {
        let lending = self.lend(&format!("--from socket:{} --to verbs:rxe0", socket.display()))?;
        let begun = revoker.moment();
        let (ended, out) = self.whole("rxe0", chance)?;
        let excuse =
            |cell: &Value| revoker.has_revoked_since(begun) && REVOKED.iter().any(|cause| cell["cause"] == *cause);
        account(WHO, self.ledger, &ended, &out, &excuse)?;
        self.dismiss(lending)
    }

    /// The lender takes back what it lent, and serves the next.
    fn without_its_active_side(&self, chance: &mut Chance) -> Result<(), Failed> {
        let lending = self.lend(OWN)?;
        let (mut posting, _) = self.post("cut", "rxe1", &format!("{} --duration 600s", transfers(chance)))?;
        std::thread::sleep(chance.time(LONGEST_LIFE));
        let (signal, codes) = signalled(chance);
        posting.signal(signal)?;
        let ended = posting.wait()?;
        if !codes.contains(&ended.code) {
            self.ledger.unexpected(BEREFT, format!("SIG{signal} to the active side: {}", told(&ended)));
        }
        self.ledger.count(BEREFT, format!("active SIG{signal}"));
        let begun = Instant::now();
        until("the lender takes its function back", || driver(SWITCH_EXPORTER).is_none())?;
        self.ledger.lasted(BEREFT, begun.elapsed());
        let mut next = self.whole("rxe1", chance)?;
        // Until it has noticed that it lost one peer, it serves no other.
        while next.0.stderr.contains("another peer is being served") && begun.elapsed() < PATIENCE {
            self.ledger.count(BEREFT, "turned away");
            next = self.whole("rxe1", chance)?;
        }
        let (ended, out) = next;
        account(BEREFT, self.ledger, &ended, &out, &|_| false)?;
        self.dismiss(lending)
    }

    /// The run ends by itself, and says why.
    fn without_its_passive_side(&self, chance: &mut Chance) -> Result<(), Failed> {
        let mut lending = self.lend(OWN)?;
        let (posting, out) = self.post("cut", "rxe1", &format!("{} --duration 600s", transfers(chance)))?;
        std::thread::sleep(chance.time(LONGEST_LIFE));
        let (signal, codes) = signalled(chance);
        lending.signal(signal)?;
        let lent = lending.wait()?;
        if !codes.contains(&lent.code) {
            self.ledger.unexpected(BEREFT, format!("SIG{signal} to the passive side: {}", told(&lent)));
        }
        self.ledger.count(BEREFT, format!("passive SIG{signal}"));
        let ended = self.survivor(posting)?;
        let is_told = |cell: &Value| cell["cause"] == "peer-lost";
        account(BEREFT, self.ledger, &ended, &out, &is_told)
    }

    /// Waits for whoever is left, which has to end by itself.
    fn survivor(&self, mut running: Running) -> Result<Ended, Failed> {
        let begun = Instant::now();
        until("whoever is left has ended", || running.has_ended())?;
        self.ledger.lasted(BEREFT, begun.elapsed());
        running.wait()
    }
}

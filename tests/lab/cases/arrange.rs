//! A run reconfigures the host for the requested path and restores the host afterwards, even if the run is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Case;
use crate::command::{Ended, all_passed, cells, peerpath, result, run, shell, start, until};
use crate::functions::{acs_control, driver, driver_override, interface, named};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case { name: "arranges_bypass_and_translated", scenarios: &["default", "bypass"], run: both },
        Case { name: "restores_arranged_settings_after_sigkill", scenarios: &["default"], run: after_sigkill },
        Case { name: "restores_arranged_settings_after_sigint", scenarios: &["default"], run: interrupted },
        Case { name: "does_not_touch_a_nic_in_use_without_force", scenarios: &["default"], run: unforced },
        Case { name: "leaves_the_nic_of_the_session_or_the_default_route_alone", scenarios: &["default"], run: never },
        Case { name: "clears_and_sets_acs_redirect", scenarios: &["switch-acs"], run: acs },
    ]
}

const OPS: &str = "--op register --op write --mode completion --size 4K";

/// The functions of a scenario. The NIC has settings that unbinding its driver discards.
struct Host {
    exporter: String,
    nic: String,
    interface: String,
}

impl Host {
    fn prepared() -> Result<Self, Failed> {
        let (exporter, nic) = (named("exporter")?, named("nic")?);
        let interface = interface(&nic)?;
        let host = Self { exporter, nic, interface };
        host.ip("address replace 10.77.0.1/16 dev")?;
        host.ip("link set mtu 1400 dev")?;
        host.ip("route replace 10.78.0.0/16 via 10.77.0.2 dev")?;
        host.wait_for_the_link()?;
        Ok(host)
    }

    fn ip(&self, words: &str) -> Result<(), Failed> {
        shell(&format!("ip {words} {}", self.interface))
    }

    fn run(&self, rest: &str, out: &Path) -> Result<Ended, Failed> {
        let Self { exporter, .. } = self;
        run(&format!("run --from {exporter}:2 --to verbs:rxe0 {OPS} {rest} --out {}", out.display()))
    }

    /// Waits until the RDMA port is active: changing the MTU and rebinding take the link down briefly, which changes the
    /// routes.
    fn wait_for_the_link(&self) -> Result<(), Failed> {
        let port = || text(Path::new("/sys/class/infiniband/rxe0/ports/1/state"));
        let carrier = || text(&Path::new("/sys/class/net").join(&self.interface).join("carrier"));
        until("the NIC's link is up", || carrier() == "1" && port().ends_with("ACTIVE"))
    }

    fn domain_type(&self) -> String {
        text(&function(&self.nic).join("iommu_group/type"))
    }

    /// Returns every setting that must be restored, as text.
    fn settings(&self) -> Result<String, Failed> {
        let mut words = format!("{} {:?} {}\n", self.domain_type(), driver(&self.nic), interface(&self.nic)?);
        words += &format!("exporter {:?} {}\n", driver(&self.exporter), driver_override(&self.exporter));
        let shown = Command::new("ip").args(["-json", "address", "show", "dev", &self.interface]).output()?;
        let shown: Value = serde_json::from_slice(&shown.stdout)?;
        let up = shown[0]["flags"].as_array().is_some_and(|flags| flags.contains(&Value::from("UP")));
        words += &format!("up {up} mtu {} mac {}\n", shown[0]["mtu"], shown[0]["address"]);
        for address in shown[0]["addr_info"].as_array().into_iter().flatten().filter(|one| one["family"] == "inet") {
            words += &format!("address {}/{} {}\n", address["local"], address["prefixlen"], address["scope"]);
        }
        let routes = Command::new("ip").args(["-4", "route", "show", "dev", &self.interface]).output()?;
        words += &String::from_utf8_lossy(&routes.stdout);
        let rdma = Path::new("/sys/class/infiniband/rxe0");
        words += &format!("rxe0 on {} {}\n", text(&rdma.join("parent")), text(&rdma.join("ports/1/state")));
        for (port, control) in acs_controls(&self.exporter)?.into_iter().chain(acs_controls(&self.nic)?) {
            words += &format!("ACS of {} {control:#x}\n", port.display());
        }
        Ok(words + &journal())
    }

    fn expect_settings(&self, before: &str) -> Result<(), Failed> {
        self.wait_for_the_link()?;
        let after = self.settings()?;
        if after == before { Ok(()) } else { Err(format!("--- before\n{before}--- after\n{after}").into()) }
    }
}

fn function(bdf: &str) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(bdf)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn journal() -> String {
    let journal: Value = serde_json::from_str(&text(Path::new("/run/peerpath/journal.json"))).unwrap_or_default();
    let entries = journal["entries"].as_array().map_or(0, Vec::len);
    format!("{entries} entries in the journal\n")
}

/// Returns the ACS control registers of the ports above a function.
fn acs_controls(bdf: &str) -> Result<Vec<(PathBuf, u16)>, Failed> {
    let mut found = Vec::new();
    for port in fs::canonicalize(function(bdf))?.ancestors().skip(1).filter(|path| path.join("config").exists()) {
        if let Some((_, control)) = acs_control(&fs::read(port.join("config"))?) {
            found.push((port.to_owned(), control));
        }
    }
    Ok(found)
}

/// Checks that every cell took the requested path and that its evidence contains the expected text. Without expected text,
/// checks that the run changed nothing on the host.
fn expect_paths(cells: &[Value], per_path: usize, expected: &[(&str, &str)]) -> Result<(), Failed> {
    if cells.len() != expected.len() * per_path {
        return Err(format!("expected {} cells, found {}", expected.len() * per_path, cells.len()).into());
    }
    for (cells, (path, words)) in cells.chunks(per_path).zip(expected) {
        for cell in cells {
            let seen = &cell["path"];
            let evidence = seen["evidence"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let arranged: Vec<_> =
                evidence.filter(|line| line.contains("switched") || line.starts_with("ACS redirect ")).collect();
            let as_asked = seen["asked"] == *path && seen["observed"] == *path && cell["outcome"] == "passed";
            let in_these_words =
                if words.is_empty() { arranged.is_empty() } else { arranged.join("; ").contains(words) };
            if !as_asked || !in_these_words {
                return Err(format!("expected {path}, arranged by {words:?}: {cell:#}").into());
            }
        }
    }
    Ok(())
}

fn both() -> Result<(), Failed> {
    let host = Host::prepared()?;
    let before = host.settings()?;
    let out = tempfile::tempdir()?;
    let translates = host.domain_type() != "identity";
    let paths = "--path bypass --path translated --path bus-address";
    host.run(&format!("{paths} --iterations 20 --force-in-use"), out.path())?.expect(0)?;
    let (bypass, translated) = match (translates, host.domain_type()) {
        (true, kind) => (format!("switched from {kind} to identity"), String::new()),
        (false, _) => (String::new(), "switched from identity to DMA".to_owned()),
    };
    let result = result(out.path())?;
    let (arranged, impossible) = cells(&result).split_at_checked(4).ok_or("expected six cells")?;
    expect_paths(arranged, 2, &[("host-bridge-bypass", &bypass), ("host-bridge-translated", &translated)])?;
    for cell in impossible {
        let reason = cell["reason"].as_str().unwrap_or_default();
        if cell["outcome"] != "waived" || cell["cause"] != "topology" || !reason.contains("have no common bridge") {
            return Err(format!("expected a cell waived with cause topology: {cell:#}").into());
        }
    }
    host.expect_settings(&before)
}

/// Kills the run while it switches the IOMMU domain, and while a cell runs.
fn after_sigkill() -> Result<(), Failed> {
    let host = Host::prepared()?;
    let before = host.settings()?;
    type Moment = fn(&Host) -> bool;
    let moments: [(&str, Moment); 2] = [
        ("the driver is unbound, or bound in another domain", |host| {
            driver(&host.nic).is_none() || host.domain_type() == "identity"
        }),
        ("the exporter is bound", |host| {
            host.domain_type() == "identity" && driver(&host.exporter).as_deref() == Some("vfio-pci")
        }),
    ];
    for (what, moment) in moments {
        let out = tempfile::tempdir()?;
        let mut running = start(&format!(
            "run --from {}:2 --to verbs:rxe0 {OPS} --path bypass --force-in-use --duration 600s --out {}",
            host.exporter,
            out.path().display()
        ))?;
        until(what, || moment(&host))?;
        running.signal("KILL")?;
        running.wait()?;
        if journal() == "0 entries in the journal\n" {
            return Err("the journal is empty: the run was not killed while the host was changed".into());
        }
        run("restore")?.expect(0)?.prints("domain type DMA-FQ")?;
        host.expect_settings(&before)?;
        run("restore")?.expect(0)?.prints("nothing to restore")?;
    }
    Ok(())
}

fn interrupted() -> Result<(), Failed> {
    let host = Host::prepared()?;
    let before = host.settings()?;
    let out = tempfile::tempdir()?;
    let mut running = start(&format!(
        "run --from {}:2 --to verbs:rxe0 {OPS} --path bypass --force-in-use --duration 3s --size 64K --out {}",
        host.exporter,
        out.path().display()
    ))?;
    until("a cell is saved", || result(out.path()).is_ok_and(|result| !cells(&result).is_empty()))?;
    running.signal("INT")?;
    running.wait()?.expect(130)?;
    host.expect_settings(&before)
}

fn unforced() -> Result<(), Failed> {
    let host = Host::prepared()?;
    let before = host.settings()?;
    let index = || text(&function(&host.nic).join("net").join(&host.interface).join("ifindex"));
    let index_before = index();
    let out = tempfile::tempdir()?;
    host.run("--path bypass --iterations 20", out.path())?.expect(3)?;
    let result = result(out.path())?;
    if cells(&result).iter().any(|cell| cell["outcome"] != "waived" || cell["cause"] != "in-use") {
        return Err(format!("expected cells waived with cause in-use: {result:#}").into());
    }
    // A recreated network interface has another index.
    if index() != index_before {
        return Err("the NIC was unbound from its driver".into());
    }
    host.expect_settings(&before)
}

fn never() -> Result<(), Failed> {
    let host = Host::prepared()?;
    let before = host.settings()?;
    let forced = |environment: &[(&str, &str)], why: &str| -> Result<(), Failed> {
        let out = tempfile::tempdir()?;
        let arguments = format!(
            "run --from {}:2 --to verbs:rxe0 {OPS} --path bypass --iterations 20 --force-in-use --out {}",
            host.exporter,
            out.path().display()
        );
        let mut command = Command::new(peerpath());
        command.args(arguments.split_whitespace()).envs(environment.iter().copied());
        let ended = command.output()?;
        let result = result(out.path())?;
        let reasons: Vec<_> = cells(&result).iter().map(|cell| cell["reason"].as_str().unwrap_or_default()).collect();
        if ended.status.code() != Some(3) || !reasons.iter().all(|reason| reason.contains(why)) {
            return Err(format!("expected {why:?}: {:?} {reasons:?}", ended.status).into());
        }
        Ok(())
    };
    forced(&[("SSH_CONNECTION", "10.77.0.2 50000 10.77.0.1 22")], "carries the login session")?;
    host.expect_settings(&before)?;
    host.ip("route add default via 10.77.0.2 dev")?;
    let refused = forced(&[], "carries the default route");
    host.ip("route del default via 10.77.0.2 dev")?;
    refused?;
    host.expect_settings(&before)
}

/// The kernel caches the P2PDMA distance of an exporter after its first use. The run must make the kernel recompute it.
fn acs() -> Result<(), Failed> {
    let host = Host::prepared()?;
    let cleared = ("bus-address", "ACS redirect cleared on");
    let bypass = ("host-bridge-bypass", "switched from");
    arranged(&host, "--path bus-address --path bypass", &[cleared, bypass])?;
    run(&format!("bind {}", host.exporter))?.expect(0)?;
    let out = tempfile::tempdir()?;
    host.run("--iterations 20", out.path())?.expect(0)?;
    all_passed(&result(out.path())?, 2)?;
    let translated = ("host-bridge-translated", "");
    arranged(&host, "--path bus-address --path translated", &[cleared, translated])?;
    arranged(&host, "--path bus-address", &[cleared])?;
    run("restore")?.expect(0)?;
    set()
}

fn arranged(host: &Host, paths: &str, expected: &[(&str, &str)]) -> Result<(), Failed> {
    let before = host.settings()?;
    let out = tempfile::tempdir()?;
    host.run(&format!("{paths} --iterations 20 --force-in-use"), out.path())?.expect(0)?;
    expect_paths(cells(&result(out.path())?), 2, expected)?;
    host.expect_settings(&before)
}

/// The run enables ACS redirect on the ports for `translated`.
fn set() -> Result<(), Failed> {
    let host = Host::prepared()?;
    let ports: Vec<_> = acs_controls(&host.exporter)?.into_iter().chain(acs_controls(&host.nic)?).collect();
    for (port, control) in &ports {
        write_acs(port, control & !0x2c)?;
    }
    let expected = [("host-bridge-translated", "ACS redirect set on"), ("bus-address", "")];
    let outcome = arranged(&host, "--path translated --path bus-address", &expected);
    for (port, control) in &ports {
        write_acs(port, *control)?;
    }
    outcome
}

fn write_acs(port: &Path, control: u16) -> Result<(), Failed> {
    use std::os::unix::fs::FileExt as _;
    let path = port.join("config");
    let (at, _) = acs_control(&fs::read(&path)?).ok_or("the port has no ACS capability")?;
    fs::File::options().write(true).open(&path)?.write_all_at(&control.to_le_bytes(), at as u64)?;
    Ok(())
}

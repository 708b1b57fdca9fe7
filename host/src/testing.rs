//! A fake host in a directory. A fake kernel implements `bind`, `unbind`, the types of IOMMU domains, config space, and the
//! programs `ip` and `rdma`.

mod networks;

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use peerpath_paths::Bdf;

use crate::host_tree::HostWriter;
use crate::{HostTree, Options};

/// Writes that the fake kernel rejects.
#[derive(Debug, Clone, Copy)]
enum Mode {
    Works,
    /// Rejects one write after this number of writes.
    FailsOnceAfter(usize),
    /// Rejects every write after this number of writes, to simulate that the process died.
    DeadAfter(usize),
}

#[derive(Debug)]
struct Kernel {
    root: PathBuf,
    mode: Mutex<Mode>,
    writes: AtomicUsize,
}

/// A fake host.
pub(crate) struct Fixture {
    base: tempfile::TempDir,
    kernel: Arc<Kernel>,
}

/// A function of the fake host.
pub(crate) struct Function<'a> {
    fixture: &'a Fixture,
    bdf: Bdf,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("host");
        let kernel = Kernel { root, mode: Mutex::new(Mode::Works), writes: AtomicUsize::new(0) };
        let fixture = Self { base, kernel: Arc::new(kernel) };
        fixture.file("proc/sys/kernel/random/boot_id", "this boot\n");
        fixture
    }

    pub(crate) fn host(&self) -> HostTree {
        HostTree::at(&self.kernel.root, self.kernel.clone())
    }

    pub(crate) fn options(&self) -> Options {
        Options { host: self.host(), state_dir: self.base.path().join("state"), ..Options::default() }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.kernel.root.join(relative)
    }

    pub(crate) fn file(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).unwrap()
    }

    pub(crate) fn link(&self, relative: &str, target: &str) {
        relink(&self.path(relative), Path::new(target));
    }

    /// Returns a function; creates it if it does not exist.
    pub(crate) fn function(&self, bdf: &str) -> Function<'_> {
        let directory = format!("sys/devices/pci0000:00/{bdf}");
        if !self.path(&directory).exists() {
            self.file(&format!("{directory}/driver_override"), "(null)\n");
            self.link(&format!("sys/bus/pci/devices/{bdf}"), &format!("../../../devices/pci0000:00/{bdf}"));
        }
        Function { fixture: self, bdf: bdf.parse().unwrap() }
    }

    /// Removes a function and its entry in an IOMMU group.
    pub(crate) fn remove(&self, bdf: &str, group: u32) {
        self.leave_group(bdf, group);
        fs::remove_file(self.path(&format!("sys/bus/pci/devices/{bdf}"))).unwrap();
        fs::remove_dir_all(self.path(&format!("sys/devices/pci0000:00/{bdf}"))).unwrap();
    }

    /// Removes a function from its IOMMU group.
    pub(crate) fn leave_group(&self, bdf: &str, number: u32) {
        fs::remove_file(self.path(&format!("sys/devices/pci0000:00/{bdf}/iommu_group"))).unwrap();
        fs::remove_file(self.path(&format!("sys/kernel/iommu_groups/{number}/devices/{bdf}"))).unwrap();
    }

    pub(crate) fn pci_driver(&self, name: &str) {
        for attribute in ["bind", "unbind"] {
            self.file(&format!("sys/bus/pci/drivers/{name}/{attribute}"), "");
        }
    }

    pub(crate) fn remove_pci_driver(&self, name: &str) {
        fs::remove_dir_all(self.path(&format!("sys/bus/pci/drivers/{name}"))).unwrap();
    }

    /// Creates the sysfs directory of a device node.
    pub(crate) fn node(&self, directory: &str, name: &str, number: &str) {
        self.file(&format!("{directory}/dev"), &format!("{number}\n"));
        self.file(&format!("{directory}/uevent"), &format!("DEVNAME={name}\n"));
    }

    /// Creates the sysfs directory of a disk or partition.
    pub(crate) fn block(&self, directory: &str, number: &str) {
        let name = directory.rsplit('/').next().unwrap();
        self.node(directory, name, number);
        self.link(&format!("{directory}/subsystem"), "/anywhere/class/block");
        self.link(&format!("sys/class/block/{name}"), self.path(directory).to_str().unwrap());
    }

    /// Creates the sysfs directory of a network interface.
    pub(crate) fn interface(&self, directory: &str, flags: &str) {
        let name = directory.rsplit('/').next().unwrap();
        self.file(&format!("{directory}/ifindex"), "2\n");
        self.file(&format!("{directory}/flags"), &format!("{flags}\n"));
        self.link(&format!("sys/class/net/{name}"), self.path(directory).to_str().unwrap());
    }

    pub(crate) fn fail_once_after(&self, writes: usize) {
        self.set_mode(Mode::FailsOnceAfter(writes));
    }

    pub(crate) fn die_after(&self, writes: usize) {
        self.set_mode(Mode::DeadAfter(writes));
    }

    pub(crate) fn revive(&self) {
        self.set_mode(Mode::Works);
    }

    fn set_mode(&self, mode: Mode) {
        *self.kernel.mode.lock().unwrap() = mode;
        self.kernel.writes.store(0, Ordering::SeqCst);
    }

    /// Reads the functions in the journal.
    pub(crate) fn journaled(&self) -> Vec<Bdf> {
        let Ok(text) = fs::read_to_string(self.options().state_dir.join("journal.json")) else { return Vec::new() };
        let journal: serde_json::Value = serde_json::from_str(&text).unwrap();
        let entries = journal["entries"].as_array().unwrap();
        entries.iter().map(|entry| entry["bdf"].as_str().unwrap().parse().unwrap()).collect()
    }
}

impl Function<'_> {
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        self.fixture.file(&format!("sys/devices/pci0000:00/{}/{name}", self.bdf), text);
        self
    }

    pub(crate) fn driver(self, name: &str) -> Self {
        self.fixture.pci_driver(name);
        let driver = format!("../../../bus/pci/drivers/{name}");
        self.fixture.link(&format!("sys/devices/pci0000:00/{}/driver", self.bdf), &driver);
        self
    }

    pub(crate) fn group(self, number: u32) -> Self {
        let group = format!("../../../kernel/iommu_groups/{number}");
        self.fixture.link(&format!("sys/devices/pci0000:00/{}/iommu_group", self.bdf), &group);
        let device = format!("../../../../devices/pci0000:00/{}", self.bdf);
        self.fixture.link(&format!("sys/kernel/iommu_groups/{number}/devices/{}", self.bdf), &device);
        self
    }

    /// Adds an ACS capability with this value of the ACS Control register.
    pub(crate) fn acs(self, control: u16) -> Self {
        let mut bytes = vec![0; 4096];
        bytes[0x100..0x102].copy_from_slice(&0x000d_u16.to_le_bytes());
        bytes[0x106..0x108].copy_from_slice(&control.to_le_bytes());
        let path = self.fixture.path(&format!("sys/devices/pci0000:00/{}/config", self.bdf));
        fs::write(path, bytes).unwrap();
        self
    }

    pub(crate) fn bdf(self) -> Bdf {
        self.bdf
    }
}

impl HostWriter for Kernel {
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        self.step()?;
        if !path.exists() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let above = || path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap();
        match path.file_name().and_then(|name| name.to_str()) {
            Some("driver_override") => fs::write(path, if text == "\n" { "(null)\n" } else { text }),
            Some("bind") => self.bind(above(), text),
            Some("unbind") => self.unbind(text),
            Some("type") => self.switch(path, text),
            _ => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    fn write_word(&self, path: &Path, offset: u16, word: u16) -> io::Result<()> {
        self.step()?;
        fs::File::options().write(true).open(path)?.write_all_at(&word.to_le_bytes(), offset.into())
    }

    fn run(&self, program: &str, arguments: &[&str]) -> io::Result<Result<String, String>> {
        self.step()?;
        Ok(networks::run(&self.root, program, arguments))
    }
}

impl Kernel {
    fn step(&self) -> io::Result<()> {
        let count = self.writes.fetch_add(1, Ordering::SeqCst);
        match *self.mode.lock().unwrap() {
            Mode::FailsOnceAfter(writes) if count == writes => Err(io::Error::from_raw_os_error(libc::EINVAL)),
            Mode::DeadAfter(writes) if count >= writes => Err(io::ErrorKind::Other.into()),
            _ => Ok(()),
        }
    }

    /// Changes the domain type of a group, unless a kernel driver is bound to one of its functions.
    fn switch(&self, path: &Path, text: &str) -> io::Result<()> {
        for function in fs::read_dir(path.with_file_name("devices"))? {
            if let Ok(driver) = fs::read_link(function?.path().join("driver"))
                && !matches!(driver.file_name().and_then(|name| name.to_str()), Some("vfio-pci" | "pcieport"))
            {
                return Err(io::Error::from_raw_os_error(libc::EPERM));
            }
        }
        match text {
            "identity\n" | "DMA\n" | "DMA-FQ\n" => fs::write(path, text),
            _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }

    fn unbind(&self, bdf: &str) -> io::Result<()> {
        networks::disappear(&self.root, bdf);
        fs::remove_file(self.driver_link(bdf))
    }

    fn driver_link(&self, bdf: &str) -> PathBuf {
        self.root.join(format!("sys/bus/pci/devices/{bdf}/driver"))
    }

    fn bind(&self, driver: &str, bdf: &str) -> io::Result<()> {
        let function = self.root.join(format!("sys/bus/pci/devices/{bdf}"));
        let only = fs::read_to_string(function.join("driver_override"))?;
        // vfio-pci matches no device without an override; an override excludes every other driver.
        let allowed = if only.trim() == "(null)" { driver != "vfio-pci" } else { only.trim() == driver };
        if !allowed || function.join("driver").exists() {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        relink(&self.driver_link(bdf), Path::new(&format!("../../../bus/pci/drivers/{driver}")));
        if driver == "e1000e" {
            networks::appear(&self.root, bdf);
        }
        Ok(())
    }
}

/// Reads every file and link of the fake host, to compare it before and after a change.
pub(crate) fn picture(fixture: &Fixture) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                walk(&path, found);
            } else if kind.is_symlink() {
                found.push((path.clone(), fs::read_link(path).unwrap().display().to_string()));
            } else {
                found.push((path.clone(), String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()));
            }
        }
    }
    let mut found = Vec::new();
    walk(&fixture.kernel.root, &mut found);
    found.sort();
    found
}

fn relink(path: &Path, target: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = fs::remove_file(path);
    symlink(target, path).unwrap();
}

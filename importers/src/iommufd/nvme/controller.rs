//! A controller from reset to stop, and its administrative commands.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use peerpath_exporter::{AddressSpace, Device, DmaMemory, Registers, page_bytes};

use super::command::{Command, Identify};
use super::error::DriveError;
use super::identify::{self, ControllerAnswer, Drive, NamespaceAnswer};
use super::prp;
use super::queue::QueuePair;
use super::registers::{ACQ, AQA, ASQ, CAP, CC, CSTS, CSTS_FATAL, CSTS_READY, Capabilities, GONE, INTMS, enabled};
use super::status::Status;

/// Entries of the administrative queues; one command at a time is under way there.
const ADMIN_ENTRIES: u32 = 16;
/// I/O queues asked for: one for each data plane, and one for each look at the drive.
const QUEUES: u16 = 64;
/// Where doorbells can lie, for all drives that do not space them out.
const MOST_REGISTER_BYTES: u64 = 64 << 10;
/// How long a command may take that carries no data of ours.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_micros(50);

/// Waits until `ready` gives something.
pub(super) fn wait<T>(
    what: &'static str,
    patience: Duration,
    mut ready: impl FnMut() -> Result<Option<T>, DriveError>,
) -> Result<T, DriveError> {
    let begun = Instant::now();
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if begun.elapsed() > patience {
            return Err(DriveError::TimedOut { what, seconds: patience.as_secs() });
        }
        std::thread::sleep(PAUSE);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The registers of a controller and what can be done with them alone.
struct Hardware {
    registers: Arc<Registers>,
    capabilities: Capabilities,
    device: Arc<Device>,
}

impl Hardware {
    fn open(device: &Arc<Device>) -> Result<Self, DriveError> {
        device.set_memory_enabled(true).map_err(DriveError::Function)?;
        let registers = Arc::new(Registers::map(device, 0, MOST_REGISTER_BYTES).map_err(DriveError::Function)?);
        let read = |offset| registers.read_u32(offset).map_err(DriveError::Registers);
        let (low, high) = (read(CAP)?, read(CAP + 4)?);
        if (low, high) == (GONE, GONE) {
            return Err(DriveError::Gone);
        }
        let capabilities = Capabilities::parse(u64::from(high) << 32 | u64::from(low));
        Ok(Self { registers, capabilities, device: Arc::clone(device) })
    }

    fn read(&self, offset: u64) -> Result<u32, DriveError> {
        match self.registers.read_u32(offset).map_err(DriveError::Registers)? {
            GONE => Err(DriveError::Gone),
            value => Ok(value),
        }
    }

    fn write(&self, offset: u64, value: u32) -> Result<(), DriveError> {
        self.registers.write_u32(offset, value).map_err(DriveError::Registers)
    }

    fn write_address(&self, offset: u64, address: u64) -> Result<(), DriveError> {
        self.write(offset, address as u32)?;
        self.write(offset + 4, (address >> 32) as u32)
    }

    /// Switches the controller off: it forgets its queues and touches memory no more.
    fn disable(&self) -> Result<(), DriveError> {
        let configuration = self.read(CC)?;
        if configuration & 1 != 0 {
            self.write(CC, configuration & !1)?;
        }
        let off = || Ok((self.read(CSTS)? & CSTS_READY == 0).then_some(()));
        wait("switching the controller off", self.capabilities.timeout, off)
    }

    fn enable(&self, admin: &QueuePair) -> Result<(), DriveError> {
        // Nobody listens to interrupts.
        self.write(INTMS, u32::MAX)?;
        let less_one = admin.entries() - 1;
        self.write(AQA, less_one << 16 | less_one)?;
        self.write_address(ASQ, admin.submission_address())?;
        self.write_address(ACQ, admin.completion_address())?;
        self.device.set_bus_master_enabled(true).map_err(DriveError::Function)?;
        self.write(CC, enabled(self.controller_page_bytes()?))?;
        let on = || match self.read(CSTS)? {
            status if status & CSTS_FATAL != 0 => Err(DriveError::Fatal),
            status => Ok((status & CSTS_READY != 0).then_some(())),
        };
        wait("switching the controller on", self.capabilities.timeout, on)
    }

    /// The smallest page that it takes: what is mapped for it is aligned to this host's pages and no more.
    fn controller_page_bytes(&self) -> Result<u64, DriveError> {
        match self.capabilities.least_page_bytes {
            least if least <= page_bytes() => Ok(least),
            _ => Err(DriveError::Unfit { why: "its smallest page is larger than this host's" }),
        }
    }

    /// Off, by its switch or by a reset of the whole function, and cut off from memory.
    fn halt(&self) {
        if self.disable().is_err() {
            // Nothing is left to do where this fails as well: closing the device resets it once more.
            let _ = self.device.reset();
        }
        let _ = self.device.set_bus_master_enabled(false);
    }
}

/// The administrative queues, and a page for answers.
struct Admin {
    queue: QueuePair,
    page: DmaMemory,
    number: u16,
}

impl Admin {
    /// Carries a command out and gives what it returns.
    fn carry_out(&mut self, hardware: &Hardware, what: &'static str, command: Command) -> Result<u32, DriveError> {
        self.number = self.number.wrapping_add(1);
        self.queue.push(command, self.number)?;
        self.queue.tell()?;
        let entry = wait(what, PATIENCE, || {
            if let Some(entry) = self.queue.pop()? {
                return Ok(Some(entry));
            }
            if hardware.read(CSTS)? & CSTS_FATAL != 0 { Err(DriveError::Fatal) } else { Ok(None) }
        })?;
        self.queue.release()?;
        if entry.number != self.number {
            return Err(DriveError::UnknownCommand);
        }
        match entry.status {
            Status::SUCCESS => Ok(entry.result),
            status => Err(DriveError::Refused { what, status }),
        }
    }

    fn identify(&mut self, hardware: &Hardware, what: Identify) -> Result<Box<[u8; identify::BYTES]>, DriveError> {
        let command = Command::identify(what, self.page.iova());
        self.carry_out(hardware, "an identify command", command)?;
        let mut bytes = Box::new([0; identify::BYTES]);
        self.page.read(0, &mut *bytes).map_err(DriveError::Registers)?;
        Ok(bytes)
    }

    fn describe(&mut self, hardware: &Hardware) -> Result<Drive, DriveError> {
        let unfit = |why| DriveError::Unfit { why };
        let page_bytes = hardware.controller_page_bytes()?;
        let controller = self.identify(hardware, Identify::Controller)?;
        let controller = ControllerAnswer::parse(&controller, hardware.capabilities.least_page_bytes);
        let namespace = match self.identify(hardware, Identify::ActiveNamespaces) {
            Ok(list) => identify::first_namespace(&list).ok_or(unfit("it has no active namespace"))?,
            // Drives of NVMe 1.0 have no such list, and their namespaces are numbered from 1 on.
            Err(DriveError::Refused { .. }) => 1,
            Err(failure) => return Err(failure),
        };
        let answer = self.identify(hardware, Identify::Namespace(namespace))?;
        let answer = NamespaceAnswer::parse(&answer).map_err(unfit)?;
        Drive::new(controller, namespace, answer, prp::longest_bytes(page_bytes)).map_err(unfit)
    }
}

/// The controller of one function: at most one runs at a time, however many data planes use it.
#[derive(Default)]
pub(crate) struct Lifecycle {
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    controller: Weak<Controller>,
    /// Counts the starts, so that an earlier controller's late end does not stop a later one.
    generation: u64,
}

impl Lifecycle {
    /// The controller that runs, or a fresh one.
    ///
    /// # Errors
    /// It could not be brought up, or one that failed is still in use.
    pub(crate) fn start(self: &Arc<Self>, space: &Arc<AddressSpace>) -> Result<Arc<Controller>, DriveError> {
        let mut running = lock(&self.running);
        if let Some(controller) = running.controller.upgrade() {
            // Dropped last, it would wait for this lock.
            drop(running);
            return if controller.has_ended() { Err(DriveError::Stopped) } else { Ok(controller) };
        }
        running.generation += 1;
        let hardware = Hardware::open(space.device())?;
        let started = start(&hardware, space);
        let (admin, drive, numbers) = started.inspect_err(|_| hardware.halt())?;
        let controller = Arc::new(Controller {
            space: Arc::clone(space),
            hardware,
            drive,
            admin: Mutex::new(admin),
            numbers: Mutex::new(numbers),
            ended: AtomicBool::new(false),
            lifecycle: Arc::clone(self),
            generation: running.generation,
        });
        running.controller = Arc::downgrade(&controller);
        Ok(controller)
    }
}

/// Resets the controller, whatever state it was left in, and asks what it is.
fn start(hardware: &Hardware, space: &Arc<AddressSpace>) -> Result<(Admin, Drive, Vec<u16>), DriveError> {
    let capabilities = &hardware.capabilities;
    if !capabilities.has_blocks {
        return Err(DriveError::Unfit { why: "it does not speak the NVM command set" });
    }
    hardware.disable()?;
    let doorbells = (capabilities.submission_doorbell(0), capabilities.completion_doorbell(0));
    let queue = QueuePair::new(space, &hardware.registers, ADMIN_ENTRIES, doorbells)?;
    let page = DmaMemory::new(space, identify::BYTES as u64)
        .map_err(|source| DriveError::Memory { what: "answers", source })?;
    hardware.enable(&queue)?;
    let mut admin = Admin { queue, page, number: 0 };
    let drive = admin.describe(hardware)?;
    let granted = admin.carry_out(hardware, "asking for queues", Command::ask_for_queues(QUEUES))?;
    // Of either kind one more than the number says.
    let granted = (granted & 0xffff).min(granted >> 16) + 1;
    let reachable = |number: &u16| capabilities.completion_doorbell(*number) + 4 <= hardware.registers.length_bytes();
    let count = granted.min(u32::from(QUEUES)) as u16;
    Ok((admin, drive, (1..=count).filter(reachable).rev().collect()))
}

/// A controller that runs. Dropping the last use of it switches it off.
pub(crate) struct Controller {
    // The administrative queues go first; by then the controller is off.
    admin: Mutex<Admin>,
    hardware: Hardware,
    space: Arc<AddressSpace>,
    drive: Drive,
    /// I/O queues that are not in use.
    numbers: Mutex<Vec<u16>>,
    ended: AtomicBool,
    lifecycle: Arc<Lifecycle>,
    generation: u64,
}

impl Controller {
    pub(crate) fn drive(&self) -> &Drive {
        &self.drive
    }

    pub(crate) fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }

    /// Commands that a queue can have under way at most: an entry always stays free, and numbers have 16 bits.
    pub(crate) fn most_commands(&self) -> u32 {
        self.hardware.capabilities.queue_entries.min(u16::MAX.into()) - 1
    }

    pub(super) fn page_bytes(&self) -> Result<u64, DriveError> {
        self.hardware.controller_page_bytes()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether it has given up or is gone; nothing in the data path asks.
    pub(super) fn is_alive(&self) -> Result<(), DriveError> {
        if self.has_ended() {
            return Err(DriveError::Stopped);
        }
        if self.hardware.read(CSTS)? & CSTS_FATAL != 0 { Err(DriveError::Fatal) } else { Ok(()) }
    }

    /// Switches it off now; everything that uses it ends.
    pub(crate) fn stop(&self) {
        if !self.ended.swap(true, Ordering::AcqRel) {
            let running = lock(&self.lifecycle.running);
            if running.generation == self.generation {
                self.hardware.halt();
            }
        }
    }

    fn carry_out(&self, what: &'static str, command: Command) -> Result<u32, DriveError> {
        if self.has_ended() {
            return Err(DriveError::Stopped);
        }
        let done = lock(&self.admin).carry_out(&self.hardware, what, command);
        done.inspect_err(|failure| {
            if failure.is_final() {
                self.stop();
            }
        })
    }

    /// Makes a pair of I/O queues; returns their number.
    pub(super) fn create_queues(&self, entries: u32) -> Result<(u16, QueuePair), DriveError> {
        let number = lock(&self.numbers).pop().ok_or(DriveError::NoQueue)?;
        self.create_numbered(number, entries).map(|pair| (number, pair)).inspect_err(|_| self.give_back(number))
    }

    fn create_numbered(&self, number: u16, entries: u32) -> Result<QueuePair, DriveError> {
        let capabilities = &self.hardware.capabilities;
        let doorbells = (capabilities.submission_doorbell(number), capabilities.completion_doorbell(number));
        let pair = QueuePair::new(&self.space, &self.hardware.registers, entries, doorbells)?;
        let command = Command::create_completion_queue(number, entries, pair.completion_address());
        self.carry_out("making a completion queue", command)?;
        let command = Command::create_submission_queue(number, entries, pair.submission_address());
        if let Err(failure) = self.carry_out("making a submission queue", command) {
            // Its memory is about to go.
            let command = Command::delete_completion_queue(number);
            self.carry_out("deleting a completion queue", command).inspect_err(|_| self.stop()).ok();
            return Err(failure);
        }
        Ok(pair)
    }

    /// Takes the queues of that number from the drive, so that their memory can go.
    pub(super) fn delete_queues(&self, number: u16) {
        let deleted = self
            .carry_out("deleting a submission queue", Command::delete_submission_queue(number))
            .and_then(|_| self.carry_out("deleting a completion queue", Command::delete_completion_queue(number)));
        match deleted {
            Ok(_) => self.give_back(number),
            Err(_) => self.stop(),
        }
    }

    fn give_back(&self, number: u16) {
        lock(&self.numbers).push(number);
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.stop();
    }
}

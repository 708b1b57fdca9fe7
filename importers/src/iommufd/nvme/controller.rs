//! Starts and stops an NVMe controller, and executes admin commands.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use peerpath_exporter::page_bytes;
use peerpath_exporter::vfio::{AddressSpace, Device, DmaMemory, Registers};

use super::command::{Command, Identify};
use super::error::DriveError;
use super::identify::{self, ControllerAnswer, Drive, NamespaceAnswer};
use super::prp;
use super::queue::QueuePair;
use super::registers::{ACQ, AQA, ASQ, CAP, CC, CSTS, CSTS_FATAL, CSTS_READY, Capabilities, GONE, INTMS, enabled};
use super::status::Status;

/// Entries per admin queue. At most one admin command is in flight.
const ADMIN_ENTRIES: u32 = 16;
/// Requested pairs of I/O queues. A data plane needs two pairs: one for transfers, one for the view of the drive.
const QUEUES: u16 = 64;
/// Maximum bytes of registers to map. With a doorbell stride of 4 bytes, they include the doorbells of every requested queue.
const MAX_REGISTER_BYTES: u64 = 64 << 10;
/// Timeout of a command that is not a measured transfer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_micros(50);

/// Calls `ready` until it returns a value or an error, or the timeout expires.
pub(super) fn wait<T>(
    what: &'static str,
    timeout: Duration,
    mut ready: impl FnMut() -> Result<Option<T>, DriveError>,
) -> Result<T, DriveError> {
    let begun = Instant::now();
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if begun.elapsed() > timeout {
            return Err(DriveError::TimedOut { what, seconds: timeout.as_secs() });
        }
        std::thread::sleep(PAUSE);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers of a controller, and the operations that need no queues.
struct Hardware {
    registers: Arc<Registers>,
    capabilities: Capabilities,
    device: Arc<Device>,
}

impl Hardware {
    fn open(device: &Arc<Device>) -> Result<Self, DriveError> {
        device.set_memory_enabled(true).map_err(DriveError::Function)?;
        let registers = Arc::new(
            Registers::map(device, peerpath_paths::BarIndex::BAR0, MAX_REGISTER_BYTES).map_err(DriveError::Function)?,
        );
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

    /// Disables the controller, which then discards its queues and accesses no memory.
    fn disable(&self) -> Result<(), DriveError> {
        let configuration = self.read(CC)?;
        if configuration & 1 != 0 {
            self.write(CC, configuration & !1)?;
        }
        let off = || Ok((self.read(CSTS)? & CSTS_READY == 0).then_some(()));
        wait("disabling the controller", self.capabilities.timeout, off)
    }

    fn enable(&self, admin: &QueuePair) -> Result<(), DriveError> {
        // Mask all interrupts, because this driver polls its queues.
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
        wait("enabling the controller", self.capabilities.timeout, on)
    }

    /// Returns the minimum page size of the controller in bytes. It must not exceed the page size of the host, because mappings
    /// are aligned only to host pages.
    fn controller_page_bytes(&self) -> Result<u64, DriveError> {
        match self.capabilities.least_page_bytes {
            least if least <= page_bytes() => Ok(least),
            _ => Err(DriveError::Unfit { why: "its minimum page size exceeds that of the host" }),
        }
    }

    /// Stops the controller: clears CC.EN, or resets the function if clearing fails, and then disables bus mastering.
    fn halt(&self) {
        if self.disable().is_err() {
            // If the reset also fails, the kernel resets the function when the device is closed.
            let _ = self.device.reset();
        }
        let _ = self.device.set_bus_master_enabled(false);
    }
}

/// Admin queues, and a page of memory for the data that admin commands return.
struct Admin {
    queue: QueuePair,
    page: DmaMemory,
    number: u16,
}

impl Admin {
    /// Executes a command and returns its command-specific result. `what` names the command in errors.
    fn execute(&mut self, hardware: &Hardware, what: &'static str, command: Command) -> Result<u32, DriveError> {
        self.number = self.number.wrapping_add(1);
        self.queue.push(command, self.number)?;
        self.queue.ring()?;
        let entry = wait(what, TIMEOUT, || {
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
        self.execute(hardware, "an identify command", command)?;
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
            // NVMe 1.0 drives do not support the list of active namespaces. Their first namespace is 1.
            Err(DriveError::Refused { .. }) => 1,
            Err(failure) => return Err(failure),
        };
        let answer = self.identify(hardware, Identify::Namespace(namespace))?;
        let answer = NamespaceAnswer::parse(&answer).map_err(unfit)?;
        Drive::new(controller, namespace, answer, prp::longest_bytes(page_bytes)).map_err(unfit)
    }
}

/// The running controller of a function, if any. All data planes share one controller.
#[derive(Default)]
pub(crate) struct Lifecycle {
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    controller: Weak<Controller>,
    /// Number of starts, so that dropping an old controller does not stop a newer one.
    generation: u64,
}

impl Lifecycle {
    /// Returns the running controller, or starts a new one.
    ///
    /// # Errors
    /// The controller did not start, or a failed controller is still in use.
    pub(crate) fn start(self: &Arc<Self>, space: &Arc<AddressSpace>) -> Result<Arc<Controller>, DriveError> {
        let mut running = lock(&self.running);
        if let Some(controller) = running.controller.upgrade() {
            // Unlock first: if `controller` is the last reference, its `Drop` acquires this lock.
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

/// Resets the controller from any state, identifies the drive, and requests I/O queues.
fn start(hardware: &Hardware, space: &Arc<AddressSpace>) -> Result<(Admin, Drive, Vec<u16>), DriveError> {
    let capabilities = &hardware.capabilities;
    if !capabilities.has_blocks {
        return Err(DriveError::Unfit { why: "it does not support the NVM command set" });
    }
    hardware.disable()?;
    let doorbells = (capabilities.submission_doorbell(0), capabilities.completion_doorbell(0));
    let queue = QueuePair::new(space, &hardware.registers, ADMIN_ENTRIES, doorbells)?;
    let page = DmaMemory::new(space, identify::BYTES as u64)
        .map_err(|source| DriveError::Memory { what: "results", source })?;
    hardware.enable(&queue)?;
    let mut admin = Admin { queue, page, number: 0 };
    let drive = admin.describe(hardware)?;
    let granted = admin.execute(hardware, "the Number of Queues request", Command::request_queues(QUEUES))?;
    // The controller reports both numbers of queues zero-based.
    let granted = (granted & 0xffff).min(granted >> 16) + 1;
    let reachable = |number: &u16| capabilities.completion_doorbell(*number) + 4 <= hardware.registers.length_bytes();
    let count = granted.min(u32::from(QUEUES)) as u16;
    Ok((admin, drive, (1..=count).filter(reachable).rev().collect()))
}

/// A running controller. Dropping the last reference stops it.
pub(crate) struct Controller {
    // `Drop` stops the controller before the memory of the admin queues is freed.
    admin: Mutex<Admin>,
    hardware: Hardware,
    space: Arc<AddressSpace>,
    drive: Drive,
    /// Identifiers of free I/O queues.
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

    /// Returns the maximum number of commands in flight per queue. One entry of a queue always stays free, and command
    /// identifiers have 16 bits.
    pub(crate) fn max_commands(&self) -> u32 {
        self.hardware.capabilities.queue_entries.min(u16::MAX.into()) - 1
    }

    pub(super) fn page_bytes(&self) -> Result<u64, DriveError> {
        self.hardware.controller_page_bytes()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Checks that the controller responds and reports no fatal error. Reads a register, which is too slow for every poll.
    pub(super) fn is_alive(&self) -> Result<(), DriveError> {
        if self.has_ended() {
            return Err(DriveError::Stopped);
        }
        if self.hardware.read(CSTS)? & CSTS_FATAL != 0 { Err(DriveError::Fatal) } else { Ok(()) }
    }

    /// Stops the controller. All later operations on it fail.
    pub(crate) fn stop(&self) {
        if !self.ended.swap(true, Ordering::AcqRel) {
            let running = lock(&self.lifecycle.running);
            if running.generation == self.generation {
                self.hardware.halt();
            }
        }
    }

    fn execute(&self, what: &'static str, command: Command) -> Result<u32, DriveError> {
        if self.has_ended() {
            return Err(DriveError::Stopped);
        }
        let done = lock(&self.admin).execute(&self.hardware, what, command);
        done.inspect_err(|failure| {
            if failure.is_final() {
                self.stop();
            }
        })
    }

    /// Creates a pair of I/O queues, and returns it with its identifier.
    pub(super) fn create_queues(&self, entries: u32) -> Result<(u16, QueuePair), DriveError> {
        let number = lock(&self.numbers).pop().ok_or(DriveError::NoQueue)?;
        self.create_numbered(number, entries).map(|pair| (number, pair)).inspect_err(|_| self.release_number(number))
    }

    fn create_numbered(&self, number: u16, entries: u32) -> Result<QueuePair, DriveError> {
        let capabilities = &self.hardware.capabilities;
        let doorbells = (capabilities.submission_doorbell(number), capabilities.completion_doorbell(number));
        let pair = QueuePair::new(&self.space, &self.hardware.registers, entries, doorbells)?;
        let command = Command::create_completion_queue(number, entries, pair.completion_address());
        self.execute("the creation of a completion queue", command)?;
        let command = Command::create_submission_queue(number, entries, pair.submission_address());
        if let Err(failure) = self.execute("the creation of a submission queue", command) {
            // Delete the completion queue before its memory is freed.
            let command = Command::delete_completion_queue(number);
            self.execute("the deletion of a completion queue", command).inspect_err(|_| self.stop()).ok();
            return Err(failure);
        }
        Ok(pair)
    }

    /// Deletes the I/O queues with this identifier, so that their memory can be freed.
    pub(super) fn delete_queues(&self, number: u16) {
        let deleted = self
            .execute("the deletion of a submission queue", Command::delete_submission_queue(number))
            .and_then(|_| self.execute("the deletion of a completion queue", Command::delete_completion_queue(number)));
        match deleted {
            Ok(_) => self.release_number(number),
            Err(_) => self.stop(),
        }
    }

    fn release_number(&self, number: u16) {
        lock(&self.numbers).push(number);
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.stop();
    }
}

//! An importer outside the workspace: host memory, copied by the CPU. It uses the public traits only.

use std::sync::Arc;

use peerpath_exporter::{Buffer, Exporter as _, Handle, HostExporter, HostMemory, OpenOptions, View};
use peerpath_importers::{
    Availability, Capabilities, Completion, DataPlane, DataPlaneSettings, DeferredRelease, Device, DeviceInfo,
    Direction, Discovered, Error, Importer, Op, OpSpec, QueuePairOptions, Registration, Role, Side, Transfer, Usage,
};
use peerpath_paths::{Explanation, Severity};

/// The importer of `copy:cpu`.
pub struct CopyImporter;

const OPS: &[OpSpec] = &[
    OpSpec { op: Op::Register, role: Role::Register, summary: "Keep the address of the buffer" },
    OpSpec { op: Op::Write, role: Role::Transfer(Direction::IntoSource), summary: "Copy into the buffer" },
    OpSpec { op: Op::Read, role: Role::Transfer(Direction::OutOfSource), summary: "Copy out of the buffer" },
    OpSpec { op: Op::Unregister, role: Role::Unregister, summary: "Drop the address of the buffer" },
];

impl Importer for CopyImporter {
    fn kind(&self) -> &'static str {
        "copy"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { ops: OPS, ..Capabilities::default() }
    }

    fn usage(&self) -> Usage {
        Usage { form: "copy:cpu", summary: "The CPU; copies host memory" }
    }

    fn discover(&self) -> Vec<Discovered> {
        vec![Discovered { target: "copy:cpu".to_owned(), bdf: None }]
    }

    fn probe(&self, address: &str) -> Result<Availability, Error> {
        self.open(address, &QueuePairOptions::default())?;
        Ok(Availability::HostMemoryOnly(host_memory_only()))
    }

    fn open(&self, address: &str, _options: &QueuePairOptions) -> Result<Arc<dyn Device>, Error> {
        if address != "cpu" {
            let explanation = Explanation::uncaused("The only device is the CPU.", "Use copy:cpu.");
            return Err(Error::untyped(format!("cannot open the device {address:?}"), Severity::BadInput, explanation));
        }
        Ok(Arc::new(Cpu { info: DeviceInfo { name: "cpu".to_owned(), soft_rdma: true, ..DeviceInfo::default() } }))
    }
}

struct Cpu {
    info: DeviceInfo,
}

impl Device for Cpu {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn register(self: Arc<Self>, buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, Error> {
        let Handle::Memory(memory) = buffer.handle() else {
            return Err(Error::untyped("cannot register the buffer", Severity::Unavailable, host_memory_only()));
        };
        Ok(Box::new(Registered(memory.clone())))
    }
}

struct Registered(HostMemory);

impl Registration for Registered {
    fn mechanism(&self) -> &'static str {
        "address"
    }

    fn data_plane(&self, settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, Error> {
        let far = HostExporter::open(settings.far_bytes, &OpenOptions::default());
        let far = far.and_then(|far| far.export(settings.far_bytes)).map_err(Error::new)?;
        let room = (settings.depth * settings.queues) as usize * if settings.both_sides { 2 } else { 1 };
        Ok(Box::new(Copies { memory: &self.0, far: Arc::clone(far.view()), completed: Vec::with_capacity(room), room }))
    }

    fn unregister(self: Box<Self>) -> Result<DeferredRelease, Error> {
        Ok(DeferredRelease::new(self))
    }
}

/// Copies the data when a transfer is submitted, and returns the completion when polled.
struct Copies<'r> {
    memory: &'r HostMemory,
    far: Arc<dyn View>,
    completed: Vec<u64>,
    room: usize,
}

impl DataPlane for Copies<'_> {
    fn far(&self) -> Arc<dyn View> {
        Arc::clone(&self.far)
    }

    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error> {
        let taken = batch.len().min(self.room - self.completed.len());
        for transfer in &batch[..taken] {
            let &Transfer { buffer_offset, far_offset, length_bytes, .. } = transfer;
            let copy = match (transfer.op, transfer.posted_by) {
                (Op::Write, Side::Far) | (Op::Read, Side::Buffer) => View::read_into,
                (Op::Read, Side::Far) | (Op::Write, Side::Buffer) => View::write_from,
                (op, _) => return Err(cannot_copy(format!("{op} is not a copy."))),
            };
            copy(&*self.far, far_offset, self.memory, buffer_offset, length_bytes as usize)
                .map_err(|error| cannot_copy(format!("{error}.")))?;
            self.completed.push(transfer.id);
        }
        Ok(taken)
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), Error> {
        done.extend(self.completed.drain(..).map(|id| Completion { id, result: Ok(()) }));
        Ok(())
    }
}

fn host_memory_only() -> Explanation {
    Explanation::uncaused("This importer copies host memory only.", "Use a source host:SIZE.")
}

fn cannot_copy(why: String) -> Error {
    Error::untyped("cannot copy", Severity::Failed, Explanation::uncaused(why, "Write or read within the memory."))
}

//! Transfers by an NVMe drive, which reads its blocks into the buffer or writes the buffer to its blocks.

use std::sync::Arc;

use peerpath_exporter::View;

use super::address::Blocks;
use super::device::check;
use super::errors::Error;
use super::far::DriveView;
use super::nvme::{Direction, DriveError, IoQueue, Status};
use super::registration::{Part, Registration};
use crate::{Completion, DataPlane, DataPlaneSettings, Op, Side, Transfer};

/// Bounds of transfers, checked before posting: a wrong address would make the drive overwrite other memory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bounds {
    /// Mapped parts of the buffer, in order and without gaps.
    parts: Box<[Part]>,
    far_bytes: u64,
    block_bytes: u64,
    is_writable: bool,
}

/// Reason why a transfer is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rejection {
    Op,
    ReadOnly,
    Length,
    Buffer,
    Far,
    Blocks,
}

impl Bounds {
    /// Checks a transfer, and returns its direction and the I/O virtual address of its data.
    fn admit(&self, transfer: &Transfer) -> Result<(Direction, u64), Rejection> {
        let length = u64::from(transfer.length_bytes);
        let within = |offset: u64, total: u64| length <= total && offset <= total - length;
        if transfer.posted_by != Side::Far || transfer.queue != 0 {
            return Err(Rejection::Op);
        }
        let direction = match transfer.op {
            Op::Read => Direction::Read,
            Op::Write if self.is_writable => Direction::Write,
            Op::Write => return Err(Rejection::ReadOnly),
            _ => return Err(Rejection::Op),
        };
        let above = self.parts.partition_point(|part| part.start <= transfer.buffer_offset);
        let part = self.parts[..above].last().filter(|part| within(transfer.buffer_offset, part.end));
        let Some(part) = part else { return Err(Rejection::Buffer) };
        if length == 0 {
            Err(Rejection::Length)
        } else if !within(transfer.far_offset, self.far_bytes) {
            Err(Rejection::Far)
        } else if !length.is_multiple_of(self.block_bytes)
            || !transfer.far_offset.is_multiple_of(self.block_bytes)
            // A drive ignores the two lowest bits of a PRP entry.
            || !transfer.buffer_offset.is_multiple_of(4)
        {
            Err(Rejection::Blocks)
        } else {
            Ok((direction, part.address + (transfer.buffer_offset - part.start)))
        }
    }
}

/// A transfer in flight. Its index in the table of transfers identifies it.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    /// ID chosen by the caller.
    id: u64,
    /// Number of its commands in flight.
    open: u32,
    /// Status of the first command that failed, or success.
    status: Status,
}

pub(super) struct NvmeDataPlane<'r> {
    // Dropped first: afterwards the drive accesses neither the buffer nor its blocks.
    queue: IoQueue,
    far: Arc<DriveView>,
    registration: &'r Registration,

    bounds: Bounds,
    first_block: u64,
    command_bytes: u64,
    transfers: Box<[InFlight]>,
    free_transfers: Vec<u32>,
    /// Index of the transfer of each command in flight, by command identifier.
    commands: Box<[Option<u32>]>,
    free_commands: Vec<u16>,
    /// Whether the drive failed, so that no more transfers are accepted.
    ended: bool,
}

impl<'r> NvmeDataPlane<'r> {
    pub(super) fn new(registration: &'r Registration, settings: &DataPlaneSettings) -> Result<Self, Error> {
        let device = registration.device();
        let (bdf, space) = (device.function.bdf, &device.function.space);
        let (_, lifecycle) = device.function.drive.as_ref().ok_or(Error::NoEngine { bdf })?;
        if settings.queues != 1 || settings.both_sides {
            return Err(Error::OneQueue { bdf });
        }
        let failed = |source| Error::Drive { bdf, source };
        let controller = lifecycle.start(space).map_err(failed)?;
        let drive = controller.drive();
        let blocks = device.write.unwrap_or(Blocks { first: 0, count: drive.blocks });
        // Check again, because the drive may have been formatted since it was opened.
        check(bdf, drive, blocks)?;
        let available_bytes = blocks.count * drive.block_bytes;
        if settings.far_bytes > available_bytes {
            return Err(Error::FarTooLong {
                bdf,
                bytes: settings.far_bytes,
                available_bytes,
                block_bytes: drive.block_bytes,
                is_restricted: device.write.is_some(),
            });
        }
        let (depth, limit) = (settings.depth, controller.max_commands());
        // A transfer longer than the maximum length of a command needs several commands.
        let divided = u32::try_from(settings.far_bytes / drive.command_bytes).unwrap_or(u32::MAX);
        let commands = depth.saturating_add(divided).min(limit);
        if depth == 0 || depth > limit {
            return Err(Error::Depth { bdf, depth, limit });
        }
        let numbers = u16::try_from(commands).map_err(|_| Error::Depth { bdf, depth, limit })?;
        let far = Arc::new(DriveView::new(&controller, blocks, device.write.is_some()).map_err(failed)?);
        Ok(Self {
            queue: IoQueue::new(&controller, commands).map_err(failed)?,
            far,
            registration,
            bounds: Bounds {
                parts: registration.parts(),
                far_bytes: available_bytes,
                block_bytes: drive.block_bytes,
                is_writable: device.write.is_some(),
            },
            first_block: blocks.first,
            command_bytes: drive.command_bytes,
            transfers: vec![InFlight { id: 0, open: 0, status: Status::SUCCESS }; depth as usize].into(),
            free_transfers: (0..depth).rev().collect(),
            commands: vec![None; usize::from(numbers)].into(),
            free_commands: (0..numbers).rev().collect(),
            ended: false,
        })
    }

    #[cold]
    fn rejected(&self, transfer: &Transfer, rejection: Rejection) -> Error {
        let Transfer { op, buffer_offset, far_offset, length_bytes, .. } = *transfer;
        let Bounds { far_bytes, block_bytes, .. } = self.bounds;
        let buffer_bytes = self.registration.buffer.length_bytes();
        let why = match rejection {
            Rejection::ReadOnly => return Error::ReadOnly { bdf: self.registration.device().function.bdf },
            Rejection::Blocks => return Error::NotInBlocks { block_bytes, length_bytes, far_offset },
            Rejection::Op => format!("a drive does not support `{op}`"),
            Rejection::Length => "its length is zero".to_owned(),
            Rejection::Buffer => {
                format!(
                    "{length_bytes} bytes at {buffer_offset:#x} exceed the buffer of {buffer_bytes:#x} bytes, or \
                     cross from one of its mappings into the next"
                )
            }
            Rejection::Far => format!(
                "{length_bytes} bytes at {far_offset:#x} exceed the {far_bytes:#x} bytes of the drive that this data \
                 plane uses"
            ),
        };
        Error::Transfer { why }
    }

    #[cold]
    fn end(&mut self, source: DriveError) -> Error {
        self.ended = true;
        Error::Drive { bdf: self.registration.device().function.bdf, source }
    }

    /// Returns the number of commands of a transfer.
    fn command_count(&self, transfer: &Transfer) -> usize {
        usize::try_from(u64::from(transfer.length_bytes).div_ceil(self.command_bytes)).unwrap_or(usize::MAX)
    }

    /// Enqueues the commands of a transfer. The queue must have enough free entries.
    fn push(&mut self, transfer: &Transfer, direction: Direction, address: u64) -> Result<(), DriveError> {
        let Some(number) = self.free_transfers.pop() else { return Ok(()) };
        let length = u64::from(transfer.length_bytes);
        let mut open = 0;
        for done in (0..length).step_by(usize::try_from(self.command_bytes).unwrap_or(usize::MAX)) {
            let Some(command) = self.free_commands.pop() else { break };
            let first_block = self.first_block + (transfer.far_offset + done) / self.bounds.block_bytes;
            let bytes = self.command_bytes.min(length - done);
            self.queue.push(command, direction, first_block, address + done, bytes)?;
            self.commands[usize::from(command)] = Some(number);
            open += 1;
        }
        self.transfers[number as usize] = InFlight { id: transfer.id, open, status: Status::SUCCESS };
        Ok(())
    }

    /// Completes a command. The last command of a transfer completes the transfer.
    fn settle(&mut self, command: u16, status: Status, done: &mut Vec<Completion>) -> Result<(), DriveError> {
        let number = self.commands[usize::from(command)].take().ok_or(DriveError::UnknownCommand)?;
        self.free_commands.push(command);
        let transfer = &mut self.transfers[number as usize];
        transfer.open -= 1;
        if status != Status::SUCCESS && transfer.status == Status::SUCCESS {
            transfer.status = status;
        }
        if transfer.open > 0 {
            return Ok(());
        }
        let InFlight { id, status, .. } = *transfer;
        self.free_transfers.push(number);
        let result = match status {
            Status::SUCCESS => Ok(()),
            status => Err(status.transfer_error(self.registration.buffer.dma_buf().is_some())),
        };
        done.push(Completion { id, result });
        Ok(())
    }

    fn collect(&mut self, done: &mut Vec<Completion>) -> Result<(), DriveError> {
        let mut any = false;
        while let Some(entry) = self.queue.pop()? {
            any = true;
            self.settle(entry.number, entry.status, done)?;
        }
        if any { self.queue.release() } else { Ok(()) }
    }
}

impl DataPlane for NvmeDataPlane<'_> {
    fn far(&self) -> Arc<dyn View> {
        Arc::clone(&self.far) as Arc<dyn View>
    }

    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, crate::Error> {
        if self.ended {
            return Err(self.end(DriveError::Stopped).into());
        }
        for transfer in batch {
            self.bounds.admit(transfer).map_err(|rejection| self.rejected(transfer, rejection))?;
            if self.command_count(transfer) > self.commands.len() {
                let (bdf, limit) = (self.registration.device().function.bdf, self.commands.len() as u32);
                return Err(Error::Depth { bdf, depth: self.transfers.len() as u32, limit }.into());
            }
        }
        let mut taken = 0;
        for transfer in batch {
            if self.free_transfers.is_empty() || self.free_commands.len() < self.command_count(transfer) {
                break;
            }
            let (direction, address) =
                self.bounds.admit(transfer).map_err(|rejection| self.rejected(transfer, rejection))?;
            self.push(transfer, direction, address).map_err(|failure| self.end(failure))?;
            taken += 1;
        }
        if taken > 0 {
            self.queue.ring().map_err(|failure| self.end(failure))?;
        }
        Ok(taken)
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), crate::Error> {
        self.collect(done).map_err(|failure| self.end(failure).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bounds(is_writable: bool) -> Bounds {
        let parts = [
            Part { start: 0, end: 1 << 19, address: 0x10_0000 },
            Part { start: 1 << 19, end: 1 << 20, address: 0x80_0000 },
        ];
        Bounds { parts: parts.into(), far_bytes: 1 << 16, block_bytes: 512, is_writable }
    }

    fn transfer(op: Op, buffer_offset: u64, far_offset: u64, length_bytes: u32) -> Transfer {
        Transfer::new(0, op, buffer_offset, far_offset, length_bytes)
    }

    #[test]
    fn writes_only_drives_that_may_be_written() {
        assert_eq!(bounds(false).admit(&transfer(Op::Write, 0, 0, 512)), Err(Rejection::ReadOnly));
        assert_eq!(bounds(true).admit(&transfer(Op::Write, 0, 0, 512)), Ok((Direction::Write, 0x10_0000)));
        assert_eq!(bounds(true).admit(&transfer(Op::Write, 0, 1 << 16, 512)), Err(Rejection::Far));
    }

    #[test]
    fn admits_whole_blocks_within_both_sides() {
        let read = |buffer_offset, far_offset, length| {
            bounds(false).admit(&transfer(Op::Read, buffer_offset, far_offset, length))
        };
        assert_eq!(read(64, 0xfe00, 512), Ok((Direction::Read, 0x10_0040)));
        assert_eq!(read((1 << 19) + 4096, 0, 512), Ok((Direction::Read, 0x80_1000)));
        assert_eq!(read((1 << 19) - 512, 0, 1024), Err(Rejection::Buffer), "spans two parts");
        assert_eq!(read(0, 0, 0), Err(Rejection::Length));
        assert_eq!(read(0, 0, 1000), Err(Rejection::Blocks));
        assert_eq!(read(0, 100, 512), Err(Rejection::Blocks));
        assert_eq!(read(2, 0, 512), Err(Rejection::Blocks));
        assert_eq!(read(1 << 20, 0, 512), Err(Rejection::Buffer));
        assert_eq!(bounds(false).admit(&transfer(Op::Send, 0, 0, 512)), Err(Rejection::Op));
    }

    proptest! {
        #[test]
        fn agrees_with_wide_arithmetic(
            (buffer_bytes, far_bytes) in (any::<u64>(), any::<u64>()),
            (buffer_offset, far_offset, length_bytes) in (any::<u64>(), any::<u64>(), any::<u32>()),
        ) {
            let parts = [Part { start: 0, end: buffer_bytes, address: 0 }];
            let bounds = Bounds { parts: parts.into(), far_bytes, block_bytes: 512, is_writable: true };
            let end = |offset: u64| u128::from(offset) + u128::from(length_bytes);
            let expected = length_bytes > 0
                && end(buffer_offset) <= u128::from(buffer_bytes)
                && end(far_offset) <= u128::from(far_bytes)
                && length_bytes.is_multiple_of(512)
                && far_offset.is_multiple_of(512)
                && buffer_offset.is_multiple_of(4);
            let admitted = bounds.admit(&transfer(Op::Write, buffer_offset, far_offset, length_bytes));
            prop_assert_eq!(admitted.is_ok(), expected);
        }
    }
}

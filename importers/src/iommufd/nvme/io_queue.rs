//! A pair of I/O queues, with one page per command for the PRP list of the command.

use std::sync::Arc;
use std::time::Duration;

use peerpath_exporter::vfio::DmaMemory;

use super::command::{Command, Direction};
use super::completion::Entry;
use super::controller::{Controller, TIMEOUT, wait};
use super::error::DriveError;
use super::prp;
use super::queue::QueuePair;
use super::status::Status;

/// Number of empty polls between two checks of the controller's state. A check reads a register, which is slow.
const POLLS_PER_LOOK: u32 = 1 << 16;
/// Like `POLLS_PER_LOOK`, for polls with a pause between them.
const PAUSES_PER_LOOK: u32 = 64;

/// A pair of I/O queues. The caller chooses command identifiers below `commands`; each identifies at most one command in
/// flight.
pub(crate) struct IoQueue {
    pair: QueuePair,
    lists: DmaMemory,
    list: Vec<u8>,
    number: u16,
    commands: u32,
    page_bytes: u64,
    in_flight: u32,
    empty_polls: u32,
    controller: Arc<Controller>,
}

impl IoQueue {
    /// Creates a pair of I/O queues for `commands` commands in flight.
    pub(crate) fn new(controller: &Arc<Controller>, commands: u32) -> Result<Self, DriveError> {
        let page_bytes = controller.page_bytes()?;
        let lists = DmaMemory::new(controller.space(), u64::from(commands) * page_bytes)
            .map_err(|source| DriveError::Memory { what: "PRP lists", source })?;
        let (number, pair) = controller.create_queues(commands + 1)?;
        Ok(Self {
            pair,
            lists,
            list: Vec::with_capacity(page_bytes as usize),
            number,
            commands,
            page_bytes,
            in_flight: 0,
            empty_polls: 0,
            controller: Arc::clone(controller),
        })
    }

    /// Enqueues a command that transfers `bytes` bytes (whole blocks), starting at block `first_block`.
    #[inline]
    pub(crate) fn push(
        &mut self,
        number: u16,
        direction: Direction,
        first_block: u64,
        address: u64,
        bytes: u64,
    ) -> Result<(), DriveError> {
        let drive = self.controller.drive();
        let list_at = u64::from(number) * self.page_bytes;
        let list_address = self.lists.iova() + list_at;
        let prp = prp::describe(address, bytes, self.page_bytes, list_address, &mut self.list);
        self.lists.write(list_at, &self.list).map_err(DriveError::Registers)?;
        let blocks = (bytes / drive.block_bytes) as u32;
        let command = Command::transfer(direction, drive.namespace, first_block, blocks, prp);
        self.pair.push(command, number)?;
        self.in_flight += 1;
        Ok(())
    }

    /// Rings the submission doorbell.
    #[inline]
    pub(crate) fn ring(&self) -> Result<(), DriveError> {
        self.pair.ring()
    }

    /// Returns the next completion, after a check of its command identifier. Checks the controller after many empty polls.
    #[inline]
    pub(crate) fn pop(&mut self) -> Result<Option<Entry>, DriveError> {
        let Some(entry) = self.pair.pop()? else {
            self.empty_polls += 1;
            if self.empty_polls >= POLLS_PER_LOOK {
                self.empty_polls = 0;
                self.controller.is_alive()?;
            }
            return Ok(None);
        };
        self.empty_polls = 0;
        if u32::from(entry.number) >= self.commands || self.in_flight == 0 {
            return Err(DriveError::UnknownCommand);
        }
        self.in_flight -= 1;
        Ok(Some(entry))
    }

    /// Rings the completion doorbell, which frees the entries of completed commands.
    #[inline]
    pub(crate) fn release(&self) -> Result<(), DriveError> {
        self.pair.release()
    }

    /// Executes one transfer and waits for its completion.
    pub(crate) fn execute(
        &mut self,
        direction: Direction,
        first_block: u64,
        address: u64,
        bytes: u64,
    ) -> Result<(), DriveError> {
        let what = match direction {
            Direction::Read => "a read",
            Direction::Write => "a write",
        };
        self.controller.is_alive()?;
        self.push(0, direction, first_block, address, bytes)?;
        self.ring()?;
        let entry = self.wait_for_one(what, TIMEOUT).inspect_err(|failure| {
            if failure.is_final() {
                self.controller.stop();
            }
        })?;
        self.release()?;
        match entry.status {
            Status::SUCCESS => Ok(()),
            status => Err(DriveError::Refused { what, status }),
        }
    }

    fn wait_for_one(&mut self, what: &'static str, timeout: Duration) -> Result<Entry, DriveError> {
        let mut polls = 0_u32;
        wait(what, timeout, || {
            if let Some(entry) = self.pop()? {
                return Ok(Some(entry));
            }
            polls = polls.wrapping_add(1);
            if polls.is_multiple_of(PAUSES_PER_LOOK) {
                self.controller.is_alive()?;
            }
            Ok(None)
        })
    }
}

impl Drop for IoQueue {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            // Stop the drive before the memory of these commands is freed.
            self.controller.stop();
        }
        if !self.controller.has_ended() {
            self.controller.delete_queues(self.number);
        }
    }
}

//! A single transfer on an idle data plane.

use std::time::Duration;

use peerpath_importers::{Completion, DataPlane, Transfer, TransferError};
use quanta::Clock;

use crate::interrupt::Interrupt;
use crate::measure::MeasureError;

/// Posts a transfer, and waits for its completion. The inner result is the outcome of the transfer.
///
/// # Errors
/// The device refused the transfer or did not complete it in time, or the run is interrupted.
pub(super) fn run(
    plane: &mut dyn DataPlane,
    transfer: Transfer,
    patience: Duration,
    clock: &Clock,
    interrupt: &Interrupt,
) -> Result<Result<(), TransferError>, MeasureError> {
    let start = clock.raw();
    let (mut is_posted, mut done) = (false, Vec::<Completion>::with_capacity(1));
    loop {
        is_posted = is_posted || plane.submit(&[transfer])? == 1;
        plane.poll(&mut done)?;
        if let Some(completion) = done.pop() {
            return Ok(completion.result);
        }
        if interrupt.is_set() {
            return Err(MeasureError::Interrupted);
        }
        if clock.delta(start, clock.raw()) > patience {
            return Err(MeasureError::TimedOut);
        }
        std::thread::yield_now();
    }
}

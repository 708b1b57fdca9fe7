//! Handing functions to vfio-pci, and giving them back.

mod give;
mod hold;

pub use crate::changes::{Outcome, PutBack, Restored, Subject, restore};
pub use crate::in_use::{InUse, UseKind, uses};
pub use give::{Bound, bind};

pub(crate) use hold::Hold;

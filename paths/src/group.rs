//! The number of an IOMMU group.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An IOMMU group, by the number under which the kernel lists it in `/sys/kernel/iommu_groups`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IommuGroupId(pub u32);

impl fmt::Display for IommuGroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

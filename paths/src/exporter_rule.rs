//! The driver that exports the memory of a function, and its rule for importers.

use serde::{Deserialize, Serialize};

use crate::{Cause, Function, PathName};

/// The driver that exports the memory of a function as dma-bufs. The driver decides which importers may map the memory: VFIO
/// applies the kernel's P2PDMA check, a GPU driver a rule of its own.
///
/// Sources: `nv_dma_buf_map` and `nv_dma_map_mmio` of NVIDIA's open kernel modules; in Linux, `amdgpu_dma_buf_attach`,
/// `xe_dma_buf_attach`, `i915_gem_dmabuf_attach` and `nouveau_gem_prime_pin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExporterRule {
    /// vfio-pci exports a BAR, and maps it only if the P2PDMA check permits the pair.
    #[default]
    Vfio,
    /// NVIDIA's driver exports memory of the GPU. It maps with `dma_map_resource`, without the P2PDMA check.
    Nvidia,
    /// amdgpu applies the P2PDMA check. If the check refuses the pair, amdgpu moves the memory to the host and reports no error.
    Amdgpu,
    /// xe applies the P2PDMA check, and falls back to host memory as amdgpu does.
    Xe,
    /// i915 moves every exported buffer to host memory.
    I915,
    /// nouveau moves every exported buffer to host memory.
    Nouveau,
}

impl ExporterRule {
    const OF_GPUS: [Self; 5] = [Self::Nvidia, Self::Amdgpu, Self::Xe, Self::I915, Self::Nouveau];

    /// The rule for the memory of a function: that of its GPU driver, otherwise VFIO's, which applies once the function is bound
    /// to vfio-pci. A selected BAR is always exported through VFIO, because a GPU driver exports GPU memory but no BAR.
    pub fn of(function: &Function, bar: Option<u8>) -> Self {
        let driver = function.driver.as_deref().filter(|_| bar.is_none() && !function.is_bridge());
        driver.and_then(|driver| Self::OF_GPUS.into_iter().find(|rule| rule.as_str() == driver)).unwrap_or_default()
    }

    /// The name in JSON: the driver, or `vfio`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vfio => "vfio",
            Self::Nvidia => "nvidia",
            Self::Amdgpu => "amdgpu",
            Self::Xe => "xe",
            Self::I915 => "i915",
            Self::Nouveau => "nouveau",
        }
    }

    /// Whether a GPU driver exports the memory.
    pub fn is_gpu(self) -> bool {
        self != Self::Vfio
    }

    /// Whether the driver applies the P2PDMA check, so that a refused pair has no peer-to-peer path.
    pub fn asks_p2pdma(self) -> bool {
        matches!(self, Self::Vfio | Self::Amdgpu | Self::Xe)
    }

    /// Whether the driver exports host memory to every importer.
    pub fn exports_host_memory_only(self) -> bool {
        matches!(self, Self::I915 | Self::Nouveau)
    }

    /// The rule, as a clause.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Vfio => "VFIO exports the BAR, and the P2PDMA check decides whether the importer may map it",
            Self::Nvidia => "NVIDIA's driver exports the GPU's memory, and maps it without the P2PDMA check",
            Self::Amdgpu => {
                "the driver amdgpu exports the GPU's memory if the P2PDMA check permits the pair; otherwise it silently \
                 exports host memory"
            }
            Self::Xe => {
                "the driver xe exports the GPU's memory if the P2PDMA check permits the pair; otherwise it silently \
                 exports host memory"
            }
            Self::I915 => "the driver i915 exports host memory only: it moves a buffer to the host before an import",
            Self::Nouveau => {
                "the driver nouveau exports host memory only: it moves a buffer to the host before an import"
            }
        }
    }

    /// The effect of the rule on a pair, as clauses. `predicted` and `cause` are the P2PDMA decision; `translated` is whether the
    /// importer's IOMMU domain translates.
    pub(crate) fn notes(self, predicted: PathName, cause: Option<Cause>, translated: Option<bool>) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.is_gpu() {
            return notes;
        }
        notes.push(self.describe().to_owned());
        let refused = predicted == PathName::Refused && cause == Some(Cause::Topology);
        if refused && self == Self::Nvidia {
            notes.push(
                "the P2PDMA refusal does not apply to memory that NVIDIA's driver exports: the driver maps it, and only a \
                 verified transfer shows whether the root complex forwards the data"
                    .to_owned(),
            );
        } else if refused && self.asks_p2pdma() {
            notes.push(format!(
                "the P2PDMA check refuses this pair, so {self} exports host memory instead, and the import succeeds"
            ));
        }
        if predicted == PathName::BusAddress && translated == Some(true) && !self.exports_host_memory_only() {
            notes.push(format!(
                "{self} maps through the importer's IOMMU domain, so the data goes through the root complex (host-bridge-translated); \
                 with an identity domain (iommu=pt) it stays below the switch"
            ));
        }
        notes
    }
}

impl std::fmt::Display for ExporterRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Vfio => "VFIO",
            Self::Nvidia => "NVIDIA's driver",
            other => other.as_str(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_contains_the_name() {
        for rule in ExporterRule::OF_GPUS.into_iter().chain([ExporterRule::Vfio]) {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.as_str());
        }
    }

    #[test]
    fn a_refusal_of_p2pdma_matters_only_to_drivers_that_apply_its_check() {
        let notes = |rule: ExporterRule| rule.notes(PathName::Refused, Some(Cause::Topology), None).join("; ");
        assert_eq!(notes(ExporterRule::Vfio), "");
        assert!(notes(ExporterRule::Nvidia).contains("refusal does not apply"));
        assert!(notes(ExporterRule::Amdgpu).contains("amdgpu exports host memory instead, and the import succeeds"));
        assert!(!notes(ExporterRule::I915).contains("P2PDMA check refuses"));
    }

    #[test]
    fn a_translating_domain_leads_through_the_root_complex() {
        let notes = |rule: ExporterRule, translated| rule.notes(PathName::BusAddress, None, translated).join("; ");
        assert!(notes(ExporterRule::Nvidia, Some(true)).contains("host-bridge-translated"));
        for translated in [Some(false), None] {
            assert!(!notes(ExporterRule::Nvidia, translated).contains("host-bridge-translated"));
        }
    }
}

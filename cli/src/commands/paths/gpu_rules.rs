//! The exporter rules of the GPU drivers, printed below the predicted paths.

use peerpath_paths::ExporterRule;

use crate::text_layout::hanging;

/// The exporter rules of the GPU drivers among the printed functions, in order of their first occurrence.
#[derive(Debug, Default)]
pub(super) struct GpuRules(Vec<ExporterRule>);

impl GpuRules {
    pub(super) fn add(&mut self, rule: ExporterRule) {
        if rule.is_gpu() && !self.0.contains(&rule) {
            self.0.push(rule);
        }
    }

    /// One paragraph per exporter rule; empty if no printed function has a GPU driver.
    pub(super) fn render(&self, width: usize) -> String {
        let paragraph = |rule: &ExporterRule| {
            hanging("", 2, &format!("Exporters with the driver {}: {}.", rule.as_str(), rule.describe()), width)
        };
        self.0.iter().map(paragraph).collect()
    }
}

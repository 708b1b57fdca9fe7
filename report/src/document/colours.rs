//! Colours of the SVG pictures, as in the light theme.
//!
//! The style sheet of the page selects elements by these colours and replaces the colours in the dark theme and in print. So
//! one picture suits all of them.

use peerpath_paths::PathName;
use plotters::style::RGBColor;

/// Text.
pub(crate) const INK: RGBColor = RGBColor(0x1b, 0x1f, 0x24);
/// Secondary text, axes and edges of boxes.
pub(crate) const MUTED: RGBColor = RGBColor(0x5b, 0x64, 0x6e);
/// Grid lines.
pub(crate) const GRID: RGBColor = RGBColor(0xd9, 0xdd, 0xe2);
/// Published figures.
pub(crate) const PUBLISHED: RGBColor = RGBColor(0x70, 0x70, 0x71);
/// Ceilings. Differs from [`INK`] so that the style sheet can select it.
pub(crate) const CEILING: RGBColor = RGBColor(0x1b, 0x1f, 0x25);
/// Background.
pub(crate) const PAPER: RGBColor = RGBColor(0xfe, 0xfe, 0xfe);

/// Colour of a path.
pub(crate) fn colour(path: PathName) -> RGBColor {
    match path {
        PathName::BusAddress => RGBColor(0x00, 0x77, 0x5a),
        PathName::HostBridgeBypass => RGBColor(0x00, 0x5f, 0xb0),
        PathName::HostBridgeTranslated => RGBColor(0xa3, 0x54, 0x00),
        PathName::Refused => RGBColor(0xb3, 0x26, 0x1e),
        PathName::HostMemory => RGBColor(0x5f, 0x63, 0x69),
        PathName::Staged => RGBColor(0x8e, 0x44, 0x7c),
        PathName::Unknown => RGBColor(0x45, 0x49, 0x4f),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A colour without a selector would keep its light-theme value in the dark theme.
    #[test]
    fn style_sheet_replaces_every_colour() {
        let css = include_str!("../../templates/report.css");
        for RGBColor(red, green, blue) in
            PathName::ALL.map(colour).into_iter().chain([INK, MUTED, PAPER, GRID, PUBLISHED, CEILING])
        {
            let hex = format!("#{red:02X}{green:02X}{blue:02X}");
            assert!(css.contains(&format!("\"{hex}\"")), "{hex}");
        }
    }
}

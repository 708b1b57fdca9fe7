//! Draws hops as SVG: both branches of the PCI tree side by side, common bridges and the root complex above them.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::hops::{Hop, Hops};
use crate::document::colours::{INK, MUTED, PAPER, colour};

/// Maximum number of hops in a picture. A longer route is only printed as text.
const MAX_HOPS: usize = 24;
/// Characters of a name that fit into a box.
const NAME_CHARACTERS: usize = 36;

// Lengths in pixels.
const WIDTH: i32 = 560;
const MARGIN: i32 = 12;
const ROW: i32 = 78;
const BOX: (i32, i32) = (256, 52);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type DrawResult = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Draws a route. Returns `None` if it has too many hops for a picture.
pub(super) fn draw(hops: &Hops) -> Option<String> {
    if hops.up.len() + hops.down.len() > MAX_HOPS {
        return None;
    }
    let in_common = usize::from(hops.crosses_root()) + usize::from(hops.turn.is_some()) + hops.shared();
    let rows = in_common + hops.up.len().max(hops.down.len()) - hops.shared();
    let height = MARGIN * 2 + rows as i32 * ROW - (ROW - BOX.1);
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
    draw_on(&area, hops).ok()?;
    area.present().ok()?;
    drop(area);
    Some(svg)
}

fn draw_on(area: &Area<'_>, hops: &Hops) -> DrawResult {
    let (own, shared) = hops.up.split_at(hops.up.len() - hops.shared());
    let root = hops.crosses_root().then_some((None, hops.root_text()));
    let common = hops.turn.iter().chain(shared.iter().rev()).map(|hop| (Some(hop), ""));
    let mut boxes: Vec<HopBox<'_>> = (0..)
        .zip(root.into_iter().chain(common))
        .map(|(row, (hop, role))| HopBox { at: (WIDTH / 2, MARGIN + row * ROW), hop, role })
        .collect();
    let mut line = match (boxes.first(), boxes.last()) {
        (Some(top), Some(bottom)) if top.at != bottom.at => {
            // The line goes up to the root complex and back down through the same bridges.
            let ((x, top), bottom) = (top.at, bottom.at.1);
            vec![(x - 12, bottom), (x - 12, top), (x + 12, top), (x + 12, bottom)]
        }
        (only, _) => only.iter().map(|one| one.at).collect(),
    };
    let y = MARGIN + boxes.len() as i32 * ROW;
    let (left, right) = (MARGIN + BOX.0 / 2, WIDTH - MARGIN - BOX.0 / 2);
    for (row, hop) in (0..).zip(own.iter().rev()) {
        let at = (left, y + row * ROW);
        let role = if Some(hop) == hops.up.first() { "source" } else { "" };
        boxes.push(HopBox { at, hop: Some(hop), role });
        line.insert(0, at);
    }
    for (row, hop) in (0..).zip(&hops.down[shared.len()..]) {
        let at = (right, y + row * ROW);
        let role = if Some(hop) == hops.down.last() { "target" } else { "" };
        boxes.push(HopBox { at, hop: Some(hop), role });
        line.push(at);
    }
    let style = colour(hops.path).stroke_width(5);
    let centers: Vec<(i32, i32)> = line.iter().map(|(x, y)| (*x, y + BOX.1 / 2)).collect();
    area.draw(&PathElement::new(bent(&centers), style))?;
    for one in &boxes {
        one.draw(area, hops)?;
    }
    Ok(())
}

/// Box of a hop, or of the root complex.
struct HopBox<'a> {
    /// Center of the upper edge.
    at: (i32, i32),
    /// `None` for the root complex.
    hop: Option<&'a Hop>,
    role: &'a str,
}

impl HopBox<'_> {
    fn draw(&self, area: &Area<'_>, hops: &Hops) -> DrawResult {
        let (x, y) = self.at;
        let corners = [(x - BOX.0 / 2, y), (x + BOX.0 / 2, y + BOX.1)];
        // If no hop decided the path, mark the root complex, whose `hop` is `None`.
        let decides = self.hop.map(|hop| hop.bdf.as_str()) == hops.deciding_hop();
        area.draw(&Rectangle::new(corners, PAPER.filled()))?;
        let edge = if decides { colour(hops.path) } else { MUTED };
        area.draw(&Rectangle::new(corners, edge.stroke_width(1)))?;
        if decides {
            // A second edge marks the deciding hop without relying on colour.
            let inner = [(corners[0].0 + 3, corners[0].1 + 3), (corners[1].0 - 3, corners[1].1 - 3)];
            area.draw(&Rectangle::new(inner, edge.stroke_width(1)))?;
        }
        let center = Pos::new(HPos::Center, VPos::Center);
        let bold = ("sans-serif", 15).into_font().style(FontStyle::Bold).color(&INK).pos(center);
        let small = ("sans-serif", 13).into_font().color(&MUTED).pos(center);
        let role = [self.role, if decides { "decides" } else { "" }];
        let role: Vec<&str> = role.into_iter().filter(|word| !word.is_empty()).collect();
        match self.hop {
            Some(hop) => {
                let title = if role.is_empty() { hop.bdf.clone() } else { format!("{}, {}", hop.bdf, role.join(", ")) };
                area.draw(&Text::new(title, (x, y + 17), bold))?;
                area.draw(&Text::new(shortened(&hop.name), (x, y + 36), small))
            }
            None => {
                let (title, rest) = self.role.split_once(": ").unwrap_or((self.role, ""));
                let title = if decides { format!("{title}, decides") } else { title.to_owned() };
                area.draw(&Text::new(title, (x, y + 17), bold))?;
                area.draw(&Text::new(rest.to_owned(), (x, y + 36), small))
            }
        }
    }
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME_CHARACTERS {
        return name.to_owned();
    }
    name.chars().take(NAME_CHARACTERS - 1).chain(['…']).collect()
}

/// Routes the line through the gaps between the rows, so that it never passes behind a box that is not one of its hops.
fn bent(points: &[(i32, i32)]) -> Vec<(i32, i32)> {
    let mut bent: Vec<(i32, i32)> = Vec::new();
    for &(x, y) in points {
        if let Some(&(before_x, before_y)) = bent.last()
            && before_x != x
            && before_y != y
        {
            let lower = before_y.max(y);
            let gap = lower - BOX.1 / 2 - (ROW - BOX.1) / 2;
            bent.extend([(before_x, gap), (x, gap)]);
        }
        bent.push((x, y));
    }
    bent
}

#[cfg(test)]
mod tests {
    use peerpath_paths::PathName;

    use super::super::hops::tests::hops;
    use super::*;

    #[test]
    fn draws_bridge_once_if_passed_twice() {
        let up_and_down = hops(
            PathName::HostBridgeTranslated,
            &[
                "0000:03:00.0",
                "0000:02:00.0",
                "0000:01:00.0",
                "0000:00:18.0",
                "0000:01:00.0",
                "0000:02:01.0",
                "0000:04:00.0",
            ],
            Some("0000:00:18.0"),
            None,
        );
        let svg = draw(&up_and_down).unwrap();
        for bdf in ["0000:01:00.0", "0000:00:18.0", "0000:02:00.0", "0000:02:01.0"] {
            assert_eq!(svg.matches(bdf).count(), 1, "{bdf}: {svg}");
        }
    }

    #[test]
    fn escapes_device_names() {
        let up_and_down = hops(
            PathName::HostBridgeTranslated,
            &["0000:03:00.0", "0000:02:00.0", "0000:00:01.0", "0000:02:01.0", "0000:04:00.0"],
            Some("0000:00:01.0"),
            Some("0000:02:00.0"),
        );
        let svg = draw(&up_and_down).unwrap();
        assert!(svg.contains("0000:02:00.0, decides") && svg.contains("&lt;b&gt;bridge"), "{svg}");
        assert!(!svg.contains("<b>"), "{svg}");
    }
}

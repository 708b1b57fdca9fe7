//! The hops (PCI functions) of a pair: up from the source, over a bridge or the root complex, down to the target.

use peerpath_paths::{Bdf, PathName};

use crate::saved::SavedPath;

/// The hops of a pair, in the order in which data passes through them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Hops {
    pub(super) path: PathName,
    pub(super) up: Vec<Hop>,
    /// Bridge above source and target. The direction changes here from up to down.
    pub(super) turn: Option<Hop>,
    pub(super) down: Vec<Hop>,
    /// Whether the requests turn at a bridge, although the kernel maps the source for the path through the root complex.
    below_root: bool,
    /// Fact that determines the path.
    pub(super) fact: Option<String>,
    /// Function that the fact is about. `None` if the root complex or the kernel decided.
    decided_by: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Hop {
    pub(super) bdf: String,
    pub(super) name: String,
}

impl Hops {
    /// `None` if the result records fewer than two hops.
    pub(super) fn of(path: PathName, saved: &SavedPath, name: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let hop = |bdf: &String| Hop { bdf: bdf.clone(), name: name(bdf).unwrap_or_default() };
        let hops: Vec<Hop> = saved.hops.iter().map(hop).collect();
        if hops.len() < 2 {
            return None;
        }
        let turn = saved.turns_at.as_ref().and_then(|turn| hops.iter().position(|hop| hop.bdf == *turn));
        let (up, turn, down) = match turn {
            Some(at) => (hops[..at].to_vec(), Some(hops[at].clone()), hops[at + 1..].to_vec()),
            None => {
                let last_up = saved.up_to.as_ref().and_then(|last| hops.iter().position(|hop| hop.bdf == *last));
                let at = last_up.map_or_else(|| count_up(&saved.hops), |last| last + 1);
                (hops[..at].to_vec(), None, hops[at..].to_vec())
            }
        };
        let deciding = saved.deciding.as_ref();
        Some(Self {
            path,
            up,
            turn,
            down,
            below_root: saved.through_root_complex == Some(false),
            fact: deciding.map(|deciding| deciding.fact.clone()),
            decided_by: deciding.and_then(|deciding| deciding.bdf.clone()),
        })
    }

    pub(super) fn crosses_root(&self) -> bool {
        self.path != PathName::BusAddress && !self.below_root
    }

    /// Function that the deciding fact is about, if it is one of these hops.
    pub(super) fn deciding_hop(&self) -> Option<&str> {
        let is_hop = |bdf: &&str| self.up.iter().chain(&self.turn).chain(&self.down).any(|hop| hop.bdf == *bdf);
        self.decided_by.as_deref().filter(is_hop)
    }

    pub(super) fn root_text(&self) -> &'static str {
        match self.path {
            PathName::HostBridgeTranslated => "root complex: the IOMMU translates",
            PathName::HostBridgeBypass => "root complex: no translation",
            PathName::Refused => "root complex: the kernel refuses",
            _ => "root complex",
        }
    }

    /// The hops as text, e.g. `0000:01:00.0 → 0000:00:01.0 → (root complex) → ...`
    pub(super) fn text(&self) -> String {
        let mut parts: Vec<String> = self.up.iter().map(|hop| hop.bdf.clone()).collect();
        let turn = self.turn.iter().map(|hop| hop.bdf.clone());
        if self.crosses_root() {
            parts.extend(turn.clone());
            parts.push(format!("({})", self.root_text()));
        }
        parts.extend(turn);
        parts.extend(self.down.iter().map(|hop| hop.bdf.clone()));
        parts.join(" → ")
    }

    /// Number of bridges below the turn that data passes through both upward and downward.
    pub(super) fn shared(&self) -> usize {
        self.up.iter().rev().zip(&self.down).take_while(|(up, down)| up == down).count()
    }
}

/// Number of upward hops, estimated for results of older versions.
///
/// A bridge has a lower bus number than the functions below it, so the bus numbers decrease on the way up. The estimate is
/// wrong between two root buses if the target's root bus has the lower number.
fn count_up(hops: &[String]) -> usize {
    let bus = |hop: &String| hop.parse::<Bdf>().ok().map(|bdf| (bdf.segment(), bdf.bus()));
    let falls = |pair: &[String]| match (bus(&pair[0]), bus(&pair[1])) {
        (Some((segment, bus)), Some((next_segment, next_bus))) => segment == next_segment && next_bus < bus,
        _ => false,
    };
    hops.windows(2).position(|pair| !falls(pair)).map_or(hops.len(), |at| at + 1)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::saved::SavedDecision;

    pub(in crate::document::route) fn hops(
        path: PathName,
        hops: &[&str],
        turns_at: Option<&str>,
        decides: Option<&str>,
    ) -> Hops {
        let saved = SavedPath {
            hops: hops.iter().map(ToString::to_string).collect(),
            turns_at: turns_at.map(str::to_owned),
            deciding: Some(SavedDecision { bdf: decides.map(str::to_owned), fact: "a fact".to_owned() }),
            ..SavedPath::default()
        };
        Hops::of(path, &saved, |_| Some("<b>bridge</b>".to_owned())).unwrap()
    }

    #[test]
    fn turns_at_recorded_bridge() {
        let below = hops(
            PathName::BusAddress,
            &["0000:06:00.0", "0000:05:00.0", "0000:04:00.0", "0000:05:01.0", "0000:07:00.0"],
            Some("0000:04:00.0"),
            Some("0000:04:00.0"),
        );
        assert_eq!(below.text(), "0000:06:00.0 → 0000:05:00.0 → 0000:04:00.0 → 0000:05:01.0 → 0000:07:00.0");
    }

    #[test]
    fn turns_in_root_complex_without_common_bridge() {
        let across = hops(
            PathName::HostBridgeTranslated,
            &["0000:01:00.0", "0000:00:01.0", "0000:40:01.0", "0000:42:00.0"],
            None,
            None,
        );
        assert_eq!((across.up.len(), across.down.len()), (2, 2));
        assert!(across.text().contains("0000:00:01.0 → (root complex: the IOMMU translates) → 0000:40:01.0"));
        let segments = hops(PathName::HostBridgeBypass, &["0000:01:00.0", "0001:00:01.0"], None, None);
        assert_eq!(segments.up.len(), 1);
    }

    #[test]
    fn requests_that_turn_below_the_root_complex_do_not_cross_it() {
        let saved = SavedPath {
            hops: ["0000:03:00.0", "0000:02:00.0", "0000:01:00.0", "0000:02:01.0", "0000:04:00.0"]
                .map(str::to_owned)
                .to_vec(),
            turns_at: Some("0000:01:00.0".to_owned()),
            through_root_complex: Some(false),
            ..SavedPath::default()
        };
        let below = Hops::of(PathName::HostBridgeBypass, &saved, |_| None).unwrap();
        assert_eq!(below.text(), "0000:03:00.0 → 0000:02:00.0 → 0000:01:00.0 → 0000:02:01.0 → 0000:04:00.0");
    }

    #[test]
    fn recorded_last_upward_hop_overrides_bus_numbers() {
        let saved = SavedPath {
            hops: ["0000:41:00.0", "0000:40:00.0", "0000:00:19.0", "0000:02:00.0"].map(str::to_owned).to_vec(),
            up_to: Some("0000:40:00.0".to_owned()),
            ..SavedPath::default()
        };
        let between_root_buses = Hops::of(PathName::HostBridgeBypass, &saved, |_| None).unwrap();
        assert_eq!(between_root_buses.up.last().unwrap().bdf, "0000:40:00.0");
    }
}

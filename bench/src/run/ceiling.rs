//! The ceiling of a cell: the highest throughput that the links of its path allow.

use peerpath_exporter::Origin;
use peerpath_importers::{DeviceInfo, Direction, Role};
use peerpath_paths::ceiling::{Engine, Limit, Op, Traffic, Transfer};
use peerpath_paths::{BarIndex, PathName, Request};

use super::context::Context;
use crate::plan::CellSpec;
use crate::result::{CellCeiling, CellPath};
use crate::route::Routes;

/// The ceiling of a cell on this host. `None` if the cell transfers nothing, if a CPU or an emulated device moves the data, if
/// the data did not take the predicted path, or if a link is not readable.
pub(super) fn of(
    context: Context<'_>,
    routes: &Routes,
    spec: &CellSpec,
    source: &Origin,
    ranges: usize,
    info: &DeviceInfo,
    path: &CellPath,
) -> Option<CellCeiling> {
    let Role::Transfer(direction) = spec.spec?.role else { return None };
    let is_on_links = [PathName::BusAddress, PathName::HostBridgeBypass, PathName::HostBridgeTranslated];
    if path.predicted != Some(path.observed) || !is_on_links.contains(&path.observed) {
        return None;
    }
    let (from, to) = source.bdf.zip(info.bdf)?;
    let bar = source.bar.map(BarIndex::get);
    let (hops, functions) =
        routes.hops(Request { bar, ranges, own_address_space: info.own_address_space }, from, to)?;
    let engine = match info.soft_rdma {
        _ if functions.iter().chain([&from, &to]).any(|bdf| context.host.is_emulated(*bdf)) => Engine::Emulated,
        true => Engine::SoftRdma,
        false => Engine::Hardware,
    };
    let limit = |op, traffic| match hops.ceiling(&Transfer { op, traffic, engine, round_trip: None }) {
        Limit::Known(ceiling) => Some(ceiling),
        Limit::Unknown(_) | Limit::None(_) => None,
    };
    let (there, back) = match direction {
        Direction::IntoSource => (Op::Write, Op::Read),
        Direction::OutOfSource => (Op::Read, Op::Write),
    };
    if !spec.bidirectional {
        let ceiling = limit(there, Traffic::OneWay)?;
        return Some(CellCeiling { bytes_per_s: ceiling.bytes_per_s, limited_by: ceiling.limited_by.to_string() });
    }
    // The opposite side posts the same operation, so the importer accesses the exported memory in the opposite direction.
    let (there, back) = (limit(there, Traffic::BothWays)?, limit(back, Traffic::BothWays)?);
    let slower = if back.bytes_per_s < there.bytes_per_s { &back } else { &there };
    Some(CellCeiling {
        bytes_per_s: there.bytes_per_s.saturating_add(back.bytes_per_s),
        limited_by: slower.limited_by.to_string(),
    })
}

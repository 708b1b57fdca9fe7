//! Collects the hops of a predicted path.

use std::collections::BTreeSet;

use super::{Assumption, Ceiling, Engine, Hop, Limit, LinkSettings, NoCeiling, Op, Port, Traffic, Transfer};
use crate::{Bdf, Capability, Function, PathName, PathReport, Pcie, PortType, Topology};

/// The hops of one path, and what is not known of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathHops {
    hops: Vec<Hop>,
    /// The importer, its tags if they are known, and its MRRS.
    requester: Option<(Bdf, Option<u16>, u16)>,
    /// Facts that are not readable, as noun phrases.
    missing: Vec<String>,
    none: Option<NoCeiling>,
    assumptions: BTreeSet<Assumption>,
}

impl PathHops {
    /// Collects the links of a predicted path. The report needs the same topology.
    pub fn read(topology: &Topology, report: &PathReport) -> Self {
        let mut found = Self {
            hops: Vec::new(),
            requester: None,
            missing: Vec::new(),
            none: None,
            assumptions: BTreeSet::from([
                Assumption::FullPayloads,
                Assumption::PlainHeaders,
                Assumption::UnlimitedForwarding,
            ]),
        };
        match report.predicted {
            PathName::Refused => found.none = Some(NoCeiling::Refused),
            PathName::Unknown => found.missing.push("the predicted path".to_owned()),
            _ if stays_inside(topology, report) => found.none = Some(NoCeiling::InsideDevice),
            _ => found.collect(topology, report),
        }
        found
    }

    /// Adds the port through which the data leaves the host. The initiator on the other host is not part of the path.
    #[must_use]
    pub fn across(mut self, port: Port) -> Self {
        self.assumptions.extend(port.assumptions());
        self.hops.push(Hop::Port(port));
        self
    }

    /// The hops in the order from exporter to importer.
    pub fn hops(&self) -> impl Iterator<Item = &Hop> {
        self.hops.iter()
    }

    /// The ceiling of a transfer. It is known only if every hop is.
    pub fn ceiling(&self, transfer: &Transfer) -> Limit {
        let Transfer { op, traffic, engine, round_trip } = *transfer;
        let none = match engine {
            Engine::Emulated => Some(NoCeiling::Emulated),
            Engine::SoftRdma => Some(NoCeiling::SoftRdma),
            Engine::Hardware => self.none,
        };
        if let Some(reason) = none {
            return Limit::None(reason);
        }
        if !self.missing.is_empty() {
            return Limit::Unknown(self.missing.clone());
        }
        let outstanding = match (op, self.requester, round_trip) {
            (Op::Read, Some((requester, Some(tags), read_request_bytes)), Some(time)) => Some(Hop::OutstandingReads {
                requester,
                tags,
                read_request_bytes,
                round_trip_ns: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            }),
            _ => None,
        };
        let mut assumptions = self.assumptions.clone();
        assumptions.insert(match traffic {
            Traffic::OneWay => Assumption::NoDllps,
            Traffic::BothWays => Assumption::RareDllps,
        });
        if op == Op::Read && outstanding.is_none() {
            assumptions.insert(Assumption::EnoughReads);
        }
        let mut slowest: Option<(u64, &Hop)> = None;
        for hop in self.hops.iter().chain(&outstanding) {
            let Some(rate) = hop.bytes_per_s(op, traffic) else {
                return Limit::Unknown(vec![format!("the speed of the {hop}")]);
            };
            if slowest.is_none_or(|(least, _)| rate < least) {
                slowest = Some((rate, hop));
            }
        }
        match slowest {
            Some((bytes_per_s, hop)) => Limit::Known(Ceiling {
                bytes_per_s,
                limited_by: hop.clone(),
                assumptions: assumptions.into_iter().collect(),
            }),
            None => Limit::None(NoCeiling::NoLink),
        }
    }

    fn collect(&mut self, topology: &Topology, report: &PathReport) {
        let links = self.links(topology, &report.hops);
        if links.is_empty() {
            return;
        }
        let (Some(exporter), Some(importer)) = (self.pcie(topology, report.from), self.pcie(topology, report.to))
        else {
            return;
        };
        self.requester = Some((report.to, importer.tags, importer.max_read_request_bytes));
        let bar = topology.function(report.from).zip(report.bar).and_then(|(function, index)| {
            function.bars.iter().find(|bar| bar.index == index).filter(|bar| bar.assigned)
        });
        let is_wide = bar.map(|bar| bar.last() > u64::from(u32::MAX));
        for LinkOnPath { upper, lower, on_exporter_side } in links {
            let Some(pcie) = self.pcie(topology, lower) else { continue };
            let Some(link) = pcie.link.or_else(|| topology.function(upper)?.pcie.present()?.link) else {
                self.missing.push(format!("the link status of {lower}"));
                continue;
            };
            let limits = [lower, upper].map(|bdf| topology.function(bdf)?.pcie.present()?.link_limit);
            if let [Some(a), Some(b)] = limits
                && link.generation < a.generation.min(b.generation)
            {
                self.assumptions.insert(Assumption::CurrentSpeed);
            }
            // The root port sends what the root complex forwards, and may split payloads above its own MPS.
            let root_port = |near: Bdf| {
                let top = topology.bridges_above(near).last().copied();
                top.filter(|_| report.through_root_complex == Some(true))
                    .and_then(|top| topology.function(top)?.pcie.present())
                    .map(|pcie| pcie.max_payload_bytes)
            };
            let within = |sender: u16, limit: Option<u16>| limit.map_or(sender, |limit| sender.min(limit));
            let (write, completion) = match on_exporter_side {
                true => (within(importer.max_payload_bytes, root_port(report.from)), exporter.max_payload_bytes),
                false => (importer.max_payload_bytes, within(exporter.max_payload_bytes, root_port(report.to))),
            };
            // The root complex translates, so only requests on the importer's side carry the I/O virtual address.
            let translated = report.predicted == PathName::HostBridgeTranslated && !on_exporter_side;
            let wide_addresses = is_wide.filter(|_| !translated);
            if wide_addresses.is_none() {
                self.assumptions.insert(Assumption::NarrowAddresses);
            }
            if pcie.flit_mode.is_none() && link.generation < 6 {
                self.assumptions.insert(Assumption::NoFlits);
            }
            self.hops.push(Hop::Link {
                upper,
                lower,
                settings: LinkSettings {
                    link,
                    flit_mode: pcie.flit_mode.unwrap_or(link.generation >= 6),
                    write_payload_bytes: write,
                    completion_payload_bytes: completion,
                    read_request_bytes: importer.max_read_request_bytes,
                    wide_addresses: wide_addresses.unwrap_or(false),
                },
            });
        }
    }

    /// The links between consecutive functions of a path. A path through one root port passes a shared link twice.
    fn links(&mut self, topology: &Topology, hops: &[Bdf]) -> Vec<LinkOnPath> {
        let mut links = Vec::new();
        for pair in hops.windows(2) {
            let (upper, lower, on_exporter_side) = match (parent(topology, pair[0]), parent(topology, pair[1])) {
                (Some(upper), _) if upper == pair[1] => (upper, pair[0], true),
                (_, Some(upper)) if upper == pair[0] => (upper, pair[1], false),
                // Both are on root buses.
                _ => continue,
            };
            match topology.function(upper).map(|function| function.pcie) {
                Some(Capability::Present(pcie)) => match pcie.port_type {
                    PortType::SwitchDownstream if is_inside_card(topology, upper, lower) => {
                        self.assumptions.insert(Assumption::InternalLinks);
                    }
                    PortType::RootPort | PortType::SwitchDownstream => {
                        links.push(LinkOnPath { upper, lower, on_exporter_side });
                    }
                    PortType::PciBridge => {
                        self.missing.push(format!("the rate of the conventional PCI bus below {upper}"))
                    }
                    _ => {}
                },
                Some(Capability::Absent) => {
                    self.missing.push(format!("the rate of the conventional PCI bus below {upper}"));
                }
                _ => self.missing.push(format!("the PCIe capability of {upper}")),
            }
        }
        links
    }

    /// The PCIe capability of a function. The registers of a virtual function are reserved, so its physical function counts.
    fn pcie(&mut self, topology: &Topology, bdf: Bdf) -> Option<Pcie> {
        let physical = topology.function(bdf).and_then(|function| function.physical_function).unwrap_or(bdf);
        match topology.function(physical).map(|function| function.pcie) {
            Some(Capability::Present(pcie)) => return Some(pcie),
            Some(Capability::Absent) => {
                self.missing.push(format!("the rate of {physical}, a conventional PCI function"))
            }
            _ => self.missing.push(format!("the PCIe capability of {physical}")),
        }
        self.missing.dedup();
        None
    }
}

/// A link that a path passes.
struct LinkOnPath {
    /// Root port or downstream port.
    upper: Bdf,
    /// Function below it.
    lower: Bdf,
    /// Whether the link is between the exporter and the turn of the path.
    on_exporter_side: bool,
}

/// Whether a link is inside the chip of a GPU. Discrete GPUs of AMD (since Vega) and Intel contain a switch; the registers of the
/// link between them show e.g. 2.5 GT/s x1 for Intel Arc, and `amdgpu_device_partner_bandwidth` in the kernel skips it.
fn is_inside_card(topology: &Topology, port: Bdf, endpoint: Bdf) -> bool {
    const VENDORS: [u16; 2] = [0x1002, 0x8086];
    let [port, endpoint] = [port, endpoint].map(|bdf| topology.function(bdf));
    let vendor = |function: Option<&Function>| function.and_then(|function| function.vendor);
    let is_gpu = endpoint.is_some_and(Function::is_accelerator);
    is_gpu && vendor(port) == vendor(endpoint) && vendor(port).is_some_and(|vendor| VENDORS.contains(&vendor))
}

fn parent(topology: &Topology, bdf: Bdf) -> Option<Bdf> {
    topology.bridges_above(bdf).first().copied()
}

/// Whether exporter and importer may exchange data without a link: they are one function, or below one port, which only one
/// device can be, and the path does not lead through the root complex.
fn stays_inside(topology: &Topology, report: &PathReport) -> bool {
    let is_port = |function: &Function| {
        let port = function.pcie.present().map(|pcie| pcie.port_type);
        matches!(port, Some(PortType::RootPort | PortType::SwitchDownstream))
    };
    let port = |bdf| parent(topology, bdf).filter(|above| topology.function(*above).is_some_and(is_port));
    let one_device = report.from == report.to || port(report.from).is_some_and(|above| port(report.to) == Some(above));
    one_device && report.through_root_complex != Some(true)
}

//! The kernel's rules on a [`Machine`], written from the source of Linux 7.2.12 and 7.3.4. Each part names the C function that it
//! restates. The structure follows the C code, not `peerpath-paths`.

use peerpath_paths::{Cause, PathName};

use crate::model::{Bar, Domain, Function, Kernel, Machine, PortType, Processor};

/// The result when a driver of one function maps a buffer of another function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) path: PathName,
    pub(crate) cause: Option<Cause>,
}

impl Answer {
    const fn mapped(path: PathName) -> Self {
        Self { path, cause: None }
    }

    const fn refused(cause: Cause) -> Self {
        Self { path: PathName::Refused, cause: Some(cause) }
    }
}

/// The results that the facts of the model permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) answers: Vec<Answer>,
    /// Whether the result depends on a fact that the model lacks, so that `unknown` is also correct.
    pub(crate) open: bool,
}

impl Verdict {
    fn settled(answer: Answer) -> Self {
        Self { answers: vec![answer], open: false }
    }

    fn open(answers: &[Answer]) -> Self {
        Self { answers: answers.to_vec(), open: true }
    }
}

/// The first device in the list of each root bus, in the order of [`Machine::roots`].
pub(crate) type Heads = Vec<Option<usize>>;

/// The first entries of `pci_bus.devices` of the root buses: `pci_device_add()` appends each device that a scan finds.
pub(crate) fn heads(machine: &Machine) -> Heads {
    let on_root_bus = |index: usize, root: usize| {
        let function = &machine.functions[index];
        // `virtfn_add_bus()` puts a virtual function with the bus number of its physical function on the same bus.
        let on_bus = function.root == root && function.bus == machine.roots[root].bus;
        on_bus && !function.removed
    };
    (0..machine.roots.len()).map(|root| machine.order.iter().copied().find(|index| on_root_bus(*index, root))).collect()
}

/// `enum pci_p2pdma_map_type`, without the values that `calc_map_type_and_dist()` never returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MapType {
    NotSupported,
    BusAddr,
    ThruHostBridge,
}

/// `dma_buf_phys_vec_to_sgt()`: maps the ranges of a BAR of `provider` for `client`.
pub(crate) fn dma_buf_phys_vec_to_sgt(machine: &Machine, heads: &Heads, provider: usize, client: usize) -> Verdict {
    match calc_map_type_and_dist(machine, heads, provider, client) {
        MapType::NotSupported => Verdict::settled(Answer::refused(Cause::Topology)),
        MapType::BusAddr => Verdict::settled(Answer::mapped(PathName::BusAddress)),
        MapType::ThruHostBridge => {
            let bar = machine.functions[provider].bar.expect("a provider has a BAR");
            match mask_of_the_importing_driver(&machine.functions[client]) {
                Some(mask) => map_through_the_dma_api(machine, client, bar, mask),
                None => {
                    // The mask is unknown: the driver that imports sets its own.
                    let narrow = map_through_the_dma_api(machine, client, bar, dma_bit_mask(32));
                    let wide = map_through_the_dma_api(machine, client, bar, dma_bit_mask(64));
                    if narrow == wide { wide } else { Verdict::open(&[narrow.answers, wide.answers].concat()) }
                }
            }
        }
    }
}

/// `calc_map_type_and_dist()`.
fn calc_map_type_and_dist(machine: &Machine, heads: &Heads, provider: usize, client: usize) -> MapType {
    let mut redirects = 0;
    let mut a = Some(provider);
    while let Some(above_provider) = a {
        redirects += usize::from(pci_bridge_has_acs_redir(machine, above_provider));
        let mut bb = Some(client);
        while let Some(above_client) = bb {
            if above_client == above_provider {
                redirects += redirects_below(machine, client, above_provider);
                if redirects == 0 {
                    return MapType::BusAddr;
                }
                return map_through_host_bridge(machine, heads, provider, client);
            }
            bb = pci_upstream_bridge(machine, above_client);
        }
        a = pci_upstream_bridge(machine, above_provider);
    }
    map_through_host_bridge(machine, heads, provider, client)
}

/// The label `check_b_path_acs` in `calc_map_type_and_dist()`: the redirects from the client up to the common node, without it.
fn redirects_below(machine: &Machine, client: usize, common: usize) -> usize {
    let mut count = 0;
    let mut bb = Some(client);
    while let Some(above) = bb.filter(|above| *above != common) {
        count += usize::from(pci_bridge_has_acs_redir(machine, above));
        bb = pci_upstream_bridge(machine, above);
    }
    count
}

/// The label `map_through_host_bridge` in `calc_map_type_and_dist()`.
fn map_through_host_bridge(machine: &Machine, heads: &Heads, provider: usize, client: usize) -> MapType {
    if cpu_supports_p2pdma(machine) || host_bridge_whitelist(machine, heads, provider, client) {
        MapType::ThruHostBridge
    } else {
        MapType::NotSupported
    }
}

/// `pci_upstream_bridge()`: the bridge above the function, for a virtual function the bridge above its physical function. `None`
/// on a root bus.
fn pci_upstream_bridge(machine: &Machine, function: usize) -> Option<usize> {
    let function = machine.functions[function].physical.unwrap_or(function);
    machine.functions[function].above
}

/// `pci_bridge_has_acs_redir()`, which also checks functions other than bridges.
fn pci_bridge_has_acs_redir(machine: &Machine, function: usize) -> bool {
    const REQUEST_REDIRECT: u16 = 1 << 2;
    const COMPLETION_REDIRECT: u16 = 1 << 3;
    const EGRESS_CONTROL: u16 = 1 << 5;
    let control = acs_control(&machine.functions[function]);
    control.is_some_and(|control| control & (REQUEST_REDIRECT | COMPLETION_REDIRECT | EGRESS_CONTROL) != 0)
}

/// `pci_acs_init()`: the capability is found only where `pci_cfg_space_size()` is more than 256 bytes.
fn acs_control(function: &Function) -> Option<u16> {
    function.acs.filter(|_| function.extended)
}

/// `cpu_supports_p2pdma()`, which is compiled for x86 only.
fn cpu_supports_p2pdma(machine: &Machine) -> bool {
    match machine.processor {
        Processor::X86 { vendor, family } => vendor == "AuthenticAMD" && family >= 0x17,
        Processor::Arm64 => false,
    }
}

/// `host_bridge_whitelist()`.
fn host_bridge_whitelist(machine: &Machine, heads: &Heads, a: usize, b: usize) -> bool {
    // `pci_find_host_bridge()` stops at the root bus of the function's segment, so a root bus behind VMD has its own host bridge.
    let (host_a, host_b) = (machine.functions[a].root, machine.functions[b].root);
    if host_a == host_b {
        return host_is_whitelisted(machine, heads[host_a], true);
    }
    host_is_whitelisted(machine, heads[host_a], false) && host_is_whitelisted(machine, heads[host_b], false)
}

/// `pci_host_bridge_dev()`.
fn pci_host_bridge_dev(machine: &Machine, head: Option<usize>) -> Option<&Function> {
    let first = &machine.functions[head?];
    let is_devfn_0 = (first.device, first.function) == (0, 0);
    (is_devfn_0 || first.port_type == Some(PortType::RootPort)).then_some(first)
}

/// `__host_bridge_whitelist()`: the first entry that matches decides.
fn host_is_whitelisted(machine: &Machine, head: Option<usize>, same_host_bridge: bool) -> bool {
    let Some(root) = pci_host_bridge_dev(machine, head) else { return false };
    let entries = WHITELIST.iter().chain(if machine.kernel == Kernel::V7_3 { WHITELIST_7_3 } else { &[] });
    for (vendor, device, same_only) in entries {
        if root.vendor == *vendor && (*device == ANY || i32::from(root.id) == *device) {
            return !same_only || same_host_bridge;
        }
    }
    false
}

/// `PCI_ANY_ID`.
const ANY: i32 = -1;

/// `pci_p2pdma_whitelist[]` of 7.2: vendor, device, `REQ_SAME_HOST_BRIDGE`.
const WHITELIST: &[(u16, i32, bool)] = &[
    (0x8086, 0x3c00, true),
    (0x8086, 0x3c01, true),
    (0x8086, 0x2f00, true),
    (0x8086, 0x2f01, true),
    (0x8086, 0x2030, false),
    (0x8086, 0x2031, false),
    (0x8086, 0x2032, false),
    (0x8086, 0x2033, false),
    (0x8086, 0x2020, false),
    (0x8086, 0x09a2, false),
    (0x8086, 0x0b25, false),
    (0x8086, 0x0cfe, false),
    (0x8086, 0x11fb, false),
    (0x8086, 0x1212, false),
    (0x8086, 0x1216, false),
    (0x8086, 0x4940, false),
    (0x8086, 0x4942, false),
    (0x8086, 0x4944, false),
    (0x8086, 0x4946, false),
    (0x8086, 0x4948, false),
    (0x1ae0, ANY, false),
];

/// Rows that 7.3 adds.
const WHITELIST_7_3: &[(u16, i32, bool)] =
    &[(0x10de, 0x2f95, false), (0x10de, 0x2f96, false), (0x10de, 0x2f97, false), (0x10de, 0x2f98, false)];

/// `DMA_BIT_MASK()`.
fn dma_bit_mask(bits: u8) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

/// `*dev->dma_mask`; `None` while no driver that imports has set it.
fn mask_of_the_importing_driver(client: &Function) -> Option<u64> {
    let imports = !matches!(client.driver, None | Some("vfio-pci"));
    imports.then(|| dma_bit_mask(client.mask_bits))
}

/// `dma_iova_try_alloc()`, then `dma_iova_link()` or `dma_map_phys()` for each range.
fn map_through_the_dma_api(machine: &Machine, client: usize, bar: Bar, mask: u64) -> Verdict {
    if !use_dma_iommu(machine, client) {
        return dma_direct_map_phys(machine, bar, mask);
    }
    let whole = iommu_dma_alloc_iova(bar.size, mask);
    let linked = if machine.ranges == 1 {
        Answer::mapped(PathName::HostBridgeTranslated)
    } else {
        // Every range is linked at offset 0 of the span, so the second one collides with the first.
        Answer::refused(Cause::MultiRangeDefect)
    };
    let too_small = Answer::refused(Cause::DmaMask);
    match whole {
        Fit::Yes => Verdict::settled(linked),
        Fit::Maybe if machine.ranges == 1 => Verdict::open(&[linked, too_small]),
        Fit::Maybe => Verdict::open(&[linked, too_small, Answer::mapped(PathName::HostBridgeTranslated)]),
        // `iommu_dma_map_phys()` allocates each range alone. The model lacks their sizes, but at least one has the average size
        // or more.
        Fit::No if iommu_dma_alloc_iova(bar.size / machine.ranges as u64, mask) == Fit::No => {
            Verdict::settled(too_small)
        }
        Fit::No => Verdict::open(&[too_small, Answer::mapped(PathName::HostBridgeTranslated)]),
    }
}

/// `iommu_setup_dma_ops()`: the default domain of the group decides.
fn use_dma_iommu(machine: &Machine, client: usize) -> bool {
    let group = machine.functions[client].group;
    group.is_some_and(|group| matches!(machine.groups[group], Domain::Dma | Domain::DmaFq))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Yes,
    No,
    /// Whether the span fits depends on reserved regions, on windows of the host bridge, and on what else is mapped.
    Maybe,
}

/// `iommu_dma_alloc_iova()` and `__alloc_and_insert_iova_range()`: a span at a multiple of its size, rounded up to a power of
/// two, below the mask, and never at page 0.
fn iommu_dma_alloc_iova(size: u64, mask: u64) -> Fit {
    const SHIFT: u32 = 12;
    /// `iova_reserve_pci_windows()` and the MSI window take an unknown part of the pages between 2 and 4 GiB.
    const DOUBTFUL: std::ops::Range<u64> = 1 << (31 - SHIFT)..1 << (32 - SHIFT);
    let pages = (size >> SHIFT).max(1);
    let align = pages.next_power_of_two();
    let high = (mask >> SHIFT) + 1;
    let Some(top) = high.checked_sub(pages).map(|top| top / align * align).filter(|top| *top >= 1) else {
        return Fit::No;
    };
    let count = |from: u64, to: u64| to.checked_sub(from).map_or(0, |span| span / align + 1);
    let below = count(align, top.min(DOUBTFUL.start.saturating_sub(pages)));
    let above = count(DOUBTFUL.end.next_multiple_of(align), top);
    if below + above > 1 { Fit::Yes } else { Fit::Maybe }
}

/// `dma_map_phys()` without dma-iommu: `dma_direct_map_phys()` with `DMA_ATTR_MMIO`, for each range of the BAR.
fn dma_direct_map_phys(machine: &Machine, bar: Bar, mask: u64) -> Verdict {
    if is_swiotlb_force_bounce(machine) {
        return Verdict::settled(Answer::refused(Cause::SwiotlbForced));
    }
    let answer = if dma_capable(bar, mask) {
        Answer::mapped(PathName::HostBridgeBypass)
    } else {
        Answer::refused(Cause::DmaMask)
    };
    match (machine.processor, machine.kernel) {
        (Processor::X86 { .. }, _) => Verdict::settled(answer),
        // On arm64, firmware can set `bus_dma_limit`, which makes the kernel refuse more mappings, and `dma_range_map`, which
        // Linux 7.3 applies in `phys_to_dma_encrypted()`.
        (Processor::Arm64, Kernel::V7_2) if answer.path == PathName::Refused => Verdict::settled(answer),
        (Processor::Arm64, _) => Verdict::open(&[answer]),
    }
}

/// `dma_capable()` for an address outside of RAM: the last byte is within the mask.
fn dma_capable(bar: Bar, mask: u64) -> bool {
    bar.end() <= mask
}

/// `is_swiotlb_force_bounce()` after `swiotlb_init_remap()`: each `swiotlb=` sets its flag, and `noforce` takes precedence.
fn is_swiotlb_force_bounce(machine: &Machine) -> bool {
    let (mut force_bounce, mut force_disable) = (false, false);
    for (name, value) in parameters(&machine.command_line) {
        if let ("swiotlb", Some(value)) = (name.as_str(), value) {
            match setup_io_tlb_npages(machine.kernel, value.as_bytes()) {
                b"force" => force_bounce = true,
                b"noforce" => force_disable = true,
                _ => {}
            }
        }
    }
    force_bounce && !force_disable
}

/// `setup_io_tlb_npages()`: skips up to two numbers, and returns the word that it recognizes.
fn setup_io_tlb_npages(kernel: Kernel, mut text: &[u8]) -> &[u8] {
    for _ in 0..2 {
        if text.first().is_some_and(u8::is_ascii_digit) {
            text = after_number(text);
        }
        text = text.strip_prefix(b",").unwrap_or(text);
    }
    let words: [&[u8]; 2] = [b"force", b"noforce"];
    let matches = |word: &&[u8]| match kernel {
        Kernel::V7_2 => text == *word,
        Kernel::V7_3 => text.starts_with(word),
    };
    words.into_iter().find(matches).unwrap_or_default()
}

/// `simple_strtoul()` with base 0: hexadecimal after `0x`, octal after `0`, otherwise decimal.
fn after_number(text: &[u8]) -> &[u8] {
    let is_hexadecimal = text.first() == Some(&b'0')
        && text.get(1).is_some_and(|letter| letter.eq_ignore_ascii_case(&b'x'))
        && text.get(2).is_some_and(u8::is_ascii_hexdigit);
    let (text, is_digit): (&[u8], fn(&u8) -> bool) = match text {
        [_, _, rest @ ..] if is_hexadecimal => (rest, u8::is_ascii_hexdigit),
        [b'0', ..] => (text, |digit| (b'0'..b'8').contains(digit)),
        _ => (text, u8::is_ascii_digit),
    };
    let digits = text.iter().take_while(|digit| is_digit(digit)).count();
    &text[digits..]
}

/// `parse_args()` with `next_arg()`: parameters are separated by white space outside quotes and end at `--`.
fn parameters(command_line: &str) -> Vec<(String, Option<String>)> {
    let mut rest = command_line.trim_start();
    let mut all = Vec::new();
    while !rest.is_empty() {
        let quoted = rest.starts_with('"');
        let mut in_quotes = false;
        let ends = |letter: char| {
            in_quotes ^= letter == '"';
            letter.is_ascii_whitespace() && !in_quotes
        };
        let (text, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
        rest = after.trim_start();
        let text = if quoted { text[1..].strip_suffix('"').unwrap_or(&text[1..]) } else { text };
        // A first character `=` belongs to the name.
        let equals = text.bytes().skip(1).position(|byte| byte == b'=').map(|position| position + 1);
        let parameter = match equals {
            None => (text.to_owned(), None),
            Some(equals) => {
                let value = &text[equals + 1..];
                let value = value.strip_prefix('"').map_or(value, |value| value.strip_suffix('"').unwrap_or(value));
                (text[..equals].to_owned(), Some(value.to_owned()))
            }
        };
        if parameter == ("--".to_owned(), None) {
            break;
        }
        all.push(parameter);
    }
    all
}

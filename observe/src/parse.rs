//! Parses the text of a trace: `TASK-PID [CPU] FLAGS SECONDS.MICROSECONDS: EVENT: FIELDS`.
//!
//! The text has microsecond timestamps. Nanosecond timestamps come from a second read of the same buffer with the option
//! `raw`, which prints `PID CPU NANOSECONDS ...` in the same order.

use peerpath_paths::Bdf;

use crate::operation::{End, TimedFunction};

/// An event in a recorded thread.
#[derive(Debug)]
pub(crate) enum Event {
    /// `dma:dma_map_phys`: the DMA API mapped physical memory.
    DirectMap { device: String, phys: u64, dma_address: u64, length_bytes: u64, attributes: String },
    /// `iommu:map`: the IOMMU mapped physical memory.
    IommuMap { iova: u64, phys: u64, length_bytes: u64 },
    /// `dma_buf:dma_buf_dynamic_attach`: a device attached to a dma-buf.
    Attached { exporter: String, device: String },
    /// `pci_p2pdma_map_type` returned this value.
    MapType(i32),
    /// `dma_iova_link` was entered.
    Link { phys: Option<u64>, attributes: Option<u64> },
    /// `dma_iova_link` returned this value.
    Linked(i64),
    /// `dma_buf_phys_vec_to_sgt` was entered: the exporter maps these ranges.
    Ranges(Ranges),
    /// A timed function was entered.
    Enter(&'static TimedFunction),
    /// A timed function returned. `counts`: it was called by a function whose calls count.
    Return { function: &'static TimedFunction, result: Option<i64>, counts: bool },
    /// Text that user space wrote to `trace_marker`.
    Marker(String),
}

/// The arguments of `dma_buf_phys_vec_to_sgt` that the probe can read. Address and length are those of the first range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    pub(crate) device: Option<String>,
    pub(crate) phys: Option<u64>,
    pub(crate) length_bytes: Option<u64>,
    pub(crate) count: Option<u64>,
    pub(crate) bus_offset: Option<u64>,
}

/// An event with its thread and time.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) thread: u32,
    pub(crate) at_ns: u64,
    pub(crate) event: Event,
}

/// A parsed trace.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The events, ordered by their timestamps.
    pub(crate) records: Vec<Record>,
    /// Number of events that did not fit into the buffer.
    pub(crate) lost_events: u64,
    /// Number of lines that do not parse.
    pub(crate) unreadable_lines: usize,
    /// Resolution of the timestamps in nanoseconds.
    pub(crate) resolution_ns: u64,
}

/// Parses a trace. If `raw` is empty, the timestamps have microsecond resolution.
pub(crate) fn parse(text: &str, raw: &str) -> Log {
    let lines: Vec<Option<Line<'_>>> = event_lines(text).map(line).collect();
    let exact = exact_times(&lines, raw);
    let mut log = Log { resolution_ns: if exact.is_some() { 1 } else { 1000 }, ..Log::default() };
    log.lost_events = text.lines().filter_map(lost).fold(0, u64::saturating_add);
    for (index, line) in lines.iter().enumerate() {
        let Some(line) = line else {
            log.unreadable_lines += 1;
            continue;
        };
        let at_ns = exact.as_ref().map_or(line.at_ns, |times| times[index]);
        match event(line.name, line.fields) {
            Ok(event) => log.records.push(Record { thread: line.thread, at_ns, event }),
            Err(NotParsed::OtherEvent) => {}
            Err(NotParsed::BadFields) => log.unreadable_lines += 1,
        }
    }
    log
}

fn event_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#') && !line.contains("[LOST "))
}

/// The number of lost events in `# entries-in-buffer/entries-written: 12/15   #P:2` or `CPU:1 [LOST 3 EVENTS]`.
fn lost(line: &str) -> Option<u64> {
    if let Some((_, rest)) = line.split_once("entries-in-buffer/entries-written:") {
        let (kept, written) = rest.split_whitespace().next()?.split_once('/')?;
        return written.parse::<u64>().ok()?.checked_sub(kept.parse().ok()?);
    }
    let (_, rest) = line.split_once("[LOST ")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The timestamps in `raw`, if it contains the same events.
fn exact_times(lines: &[Option<Line<'_>>], raw: &str) -> Option<Vec<u64>> {
    let exact: Vec<(u32, u64)> = event_lines(raw).map(raw_line).collect::<Option<_>>()?;
    let agree =
        |(line, (thread, _)): (&Option<Line<'_>>, &(u32, u64))| line.as_ref().is_none_or(|line| line.thread == *thread);
    let same = exact.len() == lines.len() && lines.iter().zip(&exact).all(agree);
    same.then(|| exact.into_iter().map(|(_, at_ns)| at_ns).collect())
}

fn raw_line(line: &str) -> Option<(u32, u64)> {
    let mut fields = line.split_whitespace();
    let thread = fields.next()?.parse().ok()?;
    let _cpu: u32 = fields.next()?.parse().ok()?;
    Some((thread, fields.next()?.parse().ok()?))
}

struct Line<'a> {
    thread: u32,
    at_ns: u64,
    name: &'a str,
    fields: &'a str,
}

fn line(text: &str) -> Option<Line<'_>> {
    // A task name may contain brackets, so the first bracket is not always that of the CPU.
    text.match_indices('[').find_map(|(at, _)| line_with_cpu_at(text, at))
}

fn line_with_cpu_at(text: &str, at: usize) -> Option<Line<'_>> {
    let (cpu, rest) = text[at + 1..].split_once(']')?;
    let thread = thread_before(&text[..at]).filter(|_| is_digits(cpu))?;
    // Flags (`d..2.`) may precede the time.
    let mut rest = rest.trim_start();
    let at_ns = loop {
        let (field, after) = rest.split_once(' ')?;
        rest = after.trim_start();
        if let Some(time) = field.strip_suffix(':') {
            break time_ns(time)?;
        }
    };
    let (name, fields) = rest.split_once(':')?;
    Some(Line { thread, at_ns, name, fields: fields.trim() })
}

/// Parses the thread ID in `TASK-PID` or `TASK-PID (TGID)`.
fn thread_before(text: &str) -> Option<u32> {
    let text = text.trim_end();
    let text = match text.strip_suffix(')') {
        Some(group) => group.rsplit_once('(')?.0.trim_end(),
        None => text,
    };
    let (_, thread) = text.rsplit_once('-')?;
    is_digits(thread).then(|| thread.parse().ok())?
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn time_ns(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.')?;
    if !is_digits(seconds) || !is_digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u64.pow(9 - u32::try_from(fraction.len()).ok()?);
    let fraction_ns = fraction.parse::<u64>().ok()? * scale;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(fraction_ns)
}

enum NotParsed {
    /// The line is an event that this crate does not use.
    OtherEvent,
    /// The line is a known event with unexpected fields.
    BadFields,
}

fn event(name: &str, fields: &str) -> Result<Event, NotParsed> {
    let read = match name {
        "dma_map_phys" => direct_map(fields),
        "map" => iommu_map(fields),
        "dma_buf_dynamic_attach" => attached(fields),
        "tracing_mark_write" => Some(Event::Marker(fields.to_owned())),
        "in_dma_iova_link" => {
            Some(Event::Link { phys: field(fields, "phys", number), attributes: field(fields, "attrs", number) })
        }
        "in_dma_buf_phys_vec_to_sgt" => Some(Event::Ranges(ranges(fields))),
        "out_pci_p2pdma_map_type" => field(fields, "result", |text| text.parse().ok()).map(Event::MapType),
        "out_dma_iova_link" => field(fields, "result", |text| text.parse().ok()).map(Event::Linked),
        _ => return timed(name, fields).ok_or(NotParsed::OtherEvent),
    };
    read.ok_or(NotParsed::BadFields)
}

fn timed(name: &str, fields: &str) -> Option<Event> {
    let (function, end) = TimedFunction::of_event(name)?;
    Some(match end {
        End::Entry => Event::Enter(function),
        End::Return => Event::Return {
            function,
            result: field(fields, "result", |text| text.parse().ok()),
            counts: function.caller.is_none_or(|counted| caller(fields) == Some(counted)),
        },
    })
}

/// The caller in a return event: `(CALLER+OFFSET/LENGTH <- FUNCTION)`. The compiler may split a function and append `.part.0` or
/// the like to the name of a part.
fn caller(fields: &str) -> Option<&str> {
    let (symbol, _) = fields.strip_prefix('(')?.split_once(" <- ")?.0.split_once('+')?;
    symbol.split('.').next()
}

fn direct_map(fields: &str) -> Option<Event> {
    Some(Event::DirectMap {
        device: fields.split_whitespace().next()?.to_owned(),
        phys: field(fields, "phys_addr", hex)?,
        dma_address: field(fields, "dma_addr", hex)?,
        length_bytes: field(fields, "size", number)?,
        attributes: field(fields, "attrs", |text| Some(text.to_owned())).unwrap_or_default(),
    })
}

fn iommu_map(fields: &str) -> Option<Event> {
    Some(Event::IommuMap {
        iova: field(fields, "iova", number)?,
        phys: field(fields, "paddr", number)?,
        length_bytes: field(fields, "size", number)?,
    })
}

fn attached(fields: &str) -> Option<Event> {
    Some(Event::Attached {
        exporter: field(fields, "exp_name", |text| Some(text.to_owned()))?,
        device: field(fields, "dev_name", |text| Some(text.to_owned()))?,
    })
}

fn ranges(fields: &str) -> Ranges {
    Ranges {
        // The kernel prints (fault) for a string that the probe could not read.
        device: field(fields, "device", |text| text.trim_matches('"').parse::<Bdf>().ok().map(|bdf| bdf.to_string())),
        phys: field(fields, "phys", number),
        length_bytes: field(fields, "length", number),
        count: field(fields, "count", number),
        bus_offset: field(fields, "bus_offset", number),
    }
}

/// The value of `name=VALUE`.
fn field<T>(fields: &str, name: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    let value = |text: &str| text.strip_prefix(name)?.strip_prefix('=').and_then(&read);
    fields.split_whitespace().find_map(value)
}

fn number(text: &str) -> Option<u64> {
    if text.starts_with("0x") { hex(text) } else { is_digits(text).then(|| text.parse().ok())? }
}

fn hex(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    // `from_str_radix` alone accepts a sign.
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok())?
}

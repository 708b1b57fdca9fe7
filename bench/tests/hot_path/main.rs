//! Tests that the measured loops do not allocate: the number of allocations must not depend on the number of operations.

mod sys;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use peerpath_bench::interrupt::Interrupt;
use peerpath_bench::layout::Layout;
use peerpath_bench::measure::{self, Flow, Limit, PingPong, Recorder, Stream};
use peerpath_exporter::View;
use peerpath_importers::{Completion, ConnectedEnd, DataPlane, Error, Op, Side, Transfer};
use quanta::Clock;

/// A data plane that completes every transfer at the next poll.
struct Plane {
    in_flight: VecDeque<u64>,
    depth: usize,
}

impl DataPlane for Plane {
    fn far(&self) -> Arc<dyn View> {
        Arc::new(Memory::default())
    }

    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error> {
        let taken = batch.len().min(self.depth - self.in_flight.len());
        self.in_flight.extend(batch[..taken].iter().map(|transfer| transfer.id));
        Ok(taken)
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), Error> {
        done.extend(self.in_flight.drain(..).map(|id| Completion { id, result: Ok(()) }));
        Ok(())
    }
}

fn plane(depth: usize) -> Plane {
    Plane { in_flight: VecDeque::with_capacity(depth), depth }
}

/// A queue pair whose responder replies at once: a sent message appears at the offset of the reply and counts as an arrival.
struct AnsweredEnd {
    plane: Plane,
    memory: Arc<Memory>,
    arrived: u64,
}

impl DataPlane for AnsweredEnd {
    fn far(&self) -> Arc<dyn View> {
        Arc::clone(&self.memory) as Arc<dyn View>
    }

    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error> {
        self.memory.back.store(self.memory.out.load(Ordering::Relaxed), Ordering::Relaxed);
        self.arrived += batch.len() as u64;
        self.plane.submit(batch)
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), Error> {
        self.plane.poll(done)
    }
}

impl ConnectedEnd for AnsweredEnd {
    fn receive(&mut self, _offsets: &[u64], _length_bytes: u32) -> Result<(), Error> {
        Ok(())
    }

    fn arrived(&mut self) -> Result<u64, Error> {
        Ok(self.arrived)
    }
}

/// Fake memory of two bytes: the last byte of all messages, and the last byte of all replies.
#[derive(Default)]
struct Memory {
    out: AtomicU8,
    back: AtomicU8,
}

/// Offset of the reply in the memory.
const ANSWER: u64 = 1 << 19;

impl Memory {
    fn at(&self, offset: u64) -> &AtomicU8 {
        if offset < ANSWER { &self.out } else { &self.back }
    }
}

impl View for Memory {
    fn length_bytes(&self) -> u64 {
        1 << 20
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        into.fill(self.at(offset).load(Ordering::Relaxed));
        Ok(())
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        from.iter().for_each(|byte| self.at(offset).store(*byte, Ordering::Relaxed));
        Ok(())
    }
}

#[track_caller]
fn assert_no_allocation_per_operation(run: impl Fn(Limit)) {
    let counted = |iterations| {
        let before = sys::allocations();
        run(Limit { iterations, duration: Duration::from_secs(60) });
        sys::allocations() - before
    };
    // Warm up: the first run allocates objects that later runs reuse.
    counted(10);
    assert_eq!(counted(10), counted(50_000));
}

#[test]
fn latency_loop_does_not_allocate() {
    let layout = Layout::new(64, 8, 1 << 20).unwrap();
    for op in [Op::Write, Op::CmpSwap] {
        assert_no_allocation_per_operation(|limit| {
            let mut recorder = Recorder::new(Clock::new());
            let stream = Stream { layout: &layout, op, posted_by: Side::Far, queues: 1, first: 0 };
            measure::latency(&mut plane(1), stream, limit, &mut recorder, &Interrupt::default()).unwrap();
            assert_eq!(recorder.count(), limit.iterations);
        });
    }
}

#[test]
fn bandwidth_loop_does_not_allocate() {
    let layout = Layout::new(64, 8, 1 << 20).unwrap();
    let far = Stream { layout: &layout, op: Op::Write, posted_by: Side::Far, queues: 1, first: 0 };
    let flow = Flow { depth: 16, queues: 4, post_list: Some(2), moderation: 8 };
    for streams in [&[far][..], &[far, Stream { posted_by: Side::Buffer, ..far }]] {
        assert_no_allocation_per_operation(|limit| {
            let (clock, interrupt) = (Clock::new(), Interrupt::default());
            let seen = measure::bandwidth(&mut plane(128), streams, flow, limit, &clock, &interrupt).unwrap();
            assert!(seen.iter().all(|seen| seen.operations == limit.iterations));
        });
    }
}

#[test]
fn ping_pong_loop_does_not_allocate() {
    let layout = Layout::new(64, 1, 1 << 18).unwrap();
    for op in [Op::Write, Op::Send] {
        assert_no_allocation_per_operation(|limit| {
            let memory = Arc::new(Memory::default());
            memory.out.store(7, Ordering::Relaxed);
            let mut end = AnsweredEnd { plane: plane(8), memory: Arc::clone(&memory), arrived: 0 };
            let mut recorder = Recorder::new(Clock::new());
            let ping_pong = PingPong { layout: &layout, op, return_offset: ANSWER, last_byte: 9, rounds: 0 };
            let (timed, sent) =
                measure::ping_pong(&mut end, ping_pong, limit, &mut recorder, &Interrupt::default()).unwrap();
            assert_eq!((timed, recorder.count()), (limit.iterations, limit.iterations));
            // The loop sends one more write to restore the original byte.
            assert_eq!(sent, limit.iterations + u64::from(op == Op::Write));
            assert_eq!(memory.out.load(Ordering::Relaxed), 7);
        });
    }
}

#[test]
fn load_loop_does_not_allocate() {
    let layout = Layout::new(64, 8, 1 << 20).unwrap();
    let stream = Stream { layout: &layout, op: Op::Write, posted_by: Side::Far, queues: 2, first: 0 };
    assert_no_allocation_per_operation(|limit| {
        let mut recorder = Recorder::new(Clock::new());
        let (flow, interrupt) = (Flow { queues: 2, ..Flow::simple(8) }, Interrupt::default());
        measure::load(&mut plane(16), stream, flow, 1e9, limit, &mut recorder, &interrupt).unwrap();
        assert_eq!(recorder.count(), limit.iterations);
    });
}

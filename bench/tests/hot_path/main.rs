//! The timed loops allocate nothing: however long they run, it is the same number of allocations.

mod sys;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use peerpath::interrupt::Interrupt;
use peerpath::layout::Layout;
use peerpath::measure::{self, Flow, Limit, Recorder, Stream, Views};
use peerpath_exporter::View;
use peerpath_importers::{Completion, DataPlane, Error, Op, Side, Transfer};
use quanta::Clock;

/// Ends everything at the next poll.
struct Plane {
    under_way: VecDeque<u64>,
    depth: usize,
}

impl DataPlane for Plane {
    fn far(&self) -> Arc<dyn View> {
        Arc::new(Memory(Arc::default()))
    }

    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error> {
        let taken = batch.len().min(self.depth - self.under_way.len());
        self.under_way.extend(batch[..taken].iter().map(|transfer| transfer.id));
        Ok(taken)
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), Error> {
        done.extend(self.under_way.drain(..).map(|id| Completion { id, result: Ok(()) }));
        Ok(())
    }
}

fn plane(depth: usize) -> Plane {
    Plane { under_way: VecDeque::with_capacity(depth), depth }
}

/// One byte that is everywhere: whatever is written on one side is found on the other.
struct Memory(Arc<AtomicU8>);

impl View for Memory {
    fn length_bytes(&self) -> u64 {
        1 << 20
    }

    fn read(&self, _offset: u64, into: &mut [u8]) -> io::Result<()> {
        into.fill(self.0.load(Ordering::Relaxed));
        Ok(())
    }

    fn write(&self, _offset: u64, from: &[u8]) -> io::Result<()> {
        from.iter().for_each(|byte| self.0.store(*byte, Ordering::Relaxed));
        Ok(())
    }
}

/// Answers at once, as a side that sends back what it was sent. Every second write says what to see changed, and is not to be
/// seen: the answer is there already.
struct Echo(Arc<AtomicU8>, AtomicU64);

impl View for Echo {
    fn length_bytes(&self) -> u64 {
        1 << 20
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        Memory(Arc::clone(&self.0)).read(offset, into)
    }

    fn write(&self, _offset: u64, from: &[u8]) -> io::Result<()> {
        if self.1.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            self.0.store(from[0], Ordering::Relaxed);
        }
        Ok(())
    }
}

#[track_caller]
fn allocates_the_same(run: impl Fn(Limit)) {
    let counted = |iterations| {
        let before = sys::allocations();
        run(Limit { iterations, duration: Duration::from_secs(60) });
        sys::allocations() - before
    };
    // The first one sets things up that stay.
    counted(10);
    assert_eq!(counted(10), counted(50_000));
}

#[test]
fn one_at_a_time() {
    let layout = Layout::new(64, 8, 1 << 20).unwrap();
    for op in [Op::Write, Op::CmpSwap] {
        allocates_the_same(|limit| {
            let mut recorder = Recorder::new(Clock::new());
            let stream = Stream { layout: &layout, op, posted_by: Side::Far };
            measure::latency(&mut plane(1), stream, limit, &mut recorder, &Interrupt::default()).unwrap();
            assert_eq!(recorder.count(), limit.iterations);
        });
    }
}

#[test]
fn many_at_a_time() {
    let layout = Layout::new(64, 8, 1 << 20).unwrap();
    let far = Stream { layout: &layout, op: Op::Write, posted_by: Side::Far };
    let flow = Flow { depth: 16, queues: 4, post_list: Some(2), moderation: 8 };
    for streams in [&[far][..], &[far, Stream { posted_by: Side::Buffer, ..far }]] {
        allocates_the_same(|limit| {
            let (clock, interrupt) = (Clock::new(), Interrupt::default());
            let seen = measure::bandwidth(&mut plane(128), streams, flow, limit, &clock, &interrupt).unwrap();
            assert!(seen.iter().all(|seen| seen.operations == limit.iterations));
        });
    }
}

#[test]
fn there_and_back() {
    let layout = Layout::new(64, 1, 1 << 20).unwrap();
    for op in [Op::Write, Op::Send] {
        allocates_the_same(|limit| {
            let shared = Arc::new(AtomicU8::new(7));
            let (near, far) = (Memory(Arc::clone(&shared)), Echo(Arc::clone(&shared), AtomicU64::new(0)));
            let mut recorder = Recorder::new(Clock::new());
            let views = Views { near: &near, far: &far };
            measure::ping_pong(&mut plane(4), &layout, op, views, limit, &mut recorder, &Interrupt::default()).unwrap();
            assert_eq!(recorder.count(), limit.iterations);
            assert_eq!(shared.load(Ordering::Relaxed), 7, "what was there before");
        });
    }
}

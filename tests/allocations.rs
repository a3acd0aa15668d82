//! In steady state nothing is allocated for a command, from its record's bytes to its result's: a
//! test binary of its own, because an allocator that counts holds for the whole of it.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, Ordering},
};

use axs::core::bench::{
    Shape, Workload,
    codec::{self, Options},
};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: hands everything on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

#[test]
fn a_command_of_one_change_allocates_nothing() {
    for shape in [Shape::Uniform, Shape::Hot] {
        let options = Options {
            workload: Workload {
                shape,
                accounts: 1_000,
                duplicates_percent: 5,
                seed: 1,
            },
            commands: 100_000,
            allocations: Some(|| ALLOCATIONS.load(Ordering::Relaxed)),
        };
        let figures = codec::run(&options, &mut |_| {});
        // A batch of 8,192 has a few buffers and the set of its numbers.
        let allocations = figures.more["allocations_per_command"].as_f64();
        assert!(
            allocations.is_some_and(|each| each <= 0.005),
            "{shape}: {allocations:?} allocations a command"
        );
        assert!(
            figures.more["result_bytes"].as_f64() > Some(100.0),
            "results were encoded"
        );
    }
}

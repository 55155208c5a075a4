//! What the cross-entropy over a vocabulary holds in memory, counted at the allocator.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use candle_core::{DType, Device, Tensor, Var};
use peftbench_kernels::{backward, vocabulary_cross_entropy, with_reference_path};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passed on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(held, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn the_logits_of_all_rows_are_never_in_memory_at_once() {
    const ROWS: usize = 256;
    const H: usize = 16;
    for words in [49_152, 262_144] {
        let table = Tensor::ones((words, H), DType::F32, &Device::Cpu).unwrap();
        let hidden = Var::ones((ROWS, H), DType::F32, &Device::Cpu).unwrap();
        let labels = vec![7; ROWS];
        let before = HELD.load(Relaxed);
        PEAK.store(before, Relaxed);
        let loss = with_reference_path(false, || {
            vocabulary_cross_entropy(&hidden, &table, &labels).unwrap()
        });
        let grads = backward(&loss).unwrap();
        let peak = PEAK.load(Relaxed) - before;
        // All words are alike.
        let found = loss.to_scalar::<f32>().unwrap();
        assert!((found - (words as f32).ln()).abs() < 1e-3, "{found}");
        assert!(grads.get(&hidden).is_some());
        let logits = ROWS * words * size_of::<f32>();
        println!("{words} words: peak {peak} bytes, the logits would be {logits}");
        assert!(
            peak < 2_000_000 && peak < logits / 20,
            "{words} words: {peak} bytes"
        );
    }
}

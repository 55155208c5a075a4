//! Memory that is written before it is read, so that nobody fills it with zeros first, and freed memory that stays.

use std::cell::RefCell;

use crate::threads::Shared;

/// Tells glibc's allocator to keep freed memory for the next tensor instead of giving it back to the system, where
/// it would have to be mapped, zeroed and touched again page by page. Call it first thing in `main`, before another
/// thread exists. Whether it is in force: not with other C libraries, nor if another thread runs already.
pub fn keep_freed_memory() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if crate::threads::alone() == Some(true) {
        // Older versions refuse a threshold above half of what they map for a thread's heap at a time.
        const OLDER: libc::c_int = 4 * 1024 * 1024 * size_of::<libc::c_long>() as libc::c_int;
        // SAFETY: `mallopt` is not safe beside another thread that allocates; there is none. A value that the library
        // does not take changes nothing.
        return unsafe {
            let mapped = [1 << 30, OLDER]
                .into_iter()
                .any(|threshold| libc::mallopt(libc::M_MMAP_THRESHOLD, threshold) == 1);
            mapped && libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX) == 1
        };
    }
    false
}

/// A result buffer that a kernel fills.
pub(crate) struct Output<T> {
    buffer: Vec<T>,
    len: usize,
}

impl<T: Copy> Output<T> {
    pub(crate) fn new(len: usize) -> Self {
        Self {
            buffer: Vec::with_capacity(len),
            len,
        }
    }

    pub(crate) fn ptr(&mut self) -> Shared<T> {
        Shared(self.buffer.as_mut_ptr())
    }

    /// # Safety
    /// All `len` values have been written.
    pub(crate) unsafe fn finish(mut self) -> Vec<T> {
        // SAFETY: the capacity is `len`, and the caller has written it.
        unsafe { self.buffer.set_len(self.len) };
        self.buffer
    }
}

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Numbers that start at a cache line, so that no vector load crosses one.
pub(crate) struct Aligned<T> {
    lines: Vec<Line>,
    marker: std::marker::PhantomData<T>,
}

impl<T: Copy> Aligned<T> {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Self {
            lines: vec![Line([0; 64]); (len * size_of::<T>()).div_ceil(64)],
            marker: std::marker::PhantomData,
        }
    }

    /// Room for `len` numbers that are not there yet: they are written through [`Aligned::as_mut_ptr`], and then
    /// [`Aligned::written`] gives them.
    pub(crate) fn unwritten(len: usize) -> Self {
        let wanted = (len * size_of::<T>()).div_ceil(64);
        let mut lines: Vec<Line> = Vec::with_capacity(wanted);
        // The last line may be longer than the numbers.
        if let Some(last) = lines.spare_capacity_mut()[..wanted].last_mut() {
            last.write(Line([0; 64]));
        }
        Self {
            lines,
            marker: std::marker::PhantomData,
        }
    }

    /// What [`Aligned::unwritten`] made room for.
    /// # Safety
    /// It made room for `len` numbers, and all have been written.
    pub(crate) unsafe fn written(mut self, len: usize) -> Self {
        // SAFETY: so many lines have room, and all of their bytes have been written.
        unsafe { self.lines.set_len((len * size_of::<T>()).div_ceil(64)) };
        self
    }

    /// Bytes that they take in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }

    pub(crate) fn as_ptr(&self) -> *const T {
        self.lines.as_ptr().cast()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.lines.as_mut_ptr().cast()
    }
}

/// Calls `f` with room for `len` numbers, aligned to a cache line, with arbitrary old contents. The thread keeps the
/// room for the next call.
pub(crate) fn with_scratch<T: Copy, R>(len: usize, f: impl FnOnce(*mut T) -> R) -> R {
    thread_local!(static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) });
    let mut lines = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    let wanted = (len * size_of::<T>()).div_ceil(64);
    if lines.len() < wanted {
        lines = vec![Line([0; 64]); wanted];
    }
    let result = f(lines.as_mut_ptr().cast());
    FREE.with_borrow_mut(|free| free.push(lines));
    result
}

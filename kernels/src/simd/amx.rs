//! AMX: products of whole tiles of bf16 (Intel, from Sapphire Rapids on). Linux gives a process its registers on demand.
//!
//! The compiler's own functions for them are not stable, so that the instructions stand here as assembly; no compiled
//! code touches these registers.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

/// Rows of a tile.
pub(crate) const ROWS: usize = 16;

/// Whether this machine multiplies tiles of bf16, and the system lets this process do so.
pub(crate) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        const REQUEST_PERMISSION: libc::c_ulong = 0x1023;
        const TILE_DATA: libc::c_ulong = 18;
        const TILE: u32 = 1 << 24;
        const BF16: u32 = 1 << 22;
        is_x86_feature_detected!("avx512f")
            && __cpuid_count(0, 0).eax >= 7
            && __cpuid_count(7, 0).edx & (TILE | BF16) == TILE | BF16
            // SAFETY: a system that does not know the request refuses it.
            && unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) } == 0
    })
}

/// Runs `f` with all eight tile registers of 16 rows of 64 bytes.
/// # Safety
/// [`available`] has said yes.
pub(crate) unsafe fn with_tiles<R>(f: impl FnOnce() -> R) -> R {
    #[repr(C, align(64))]
    struct Shapes([u8; 64]);
    const SHAPES: Shapes = {
        let mut shapes = [0; 64];
        // Palette 1; bytes of a row from 16 on (two bytes each), rows from 48 on.
        shapes[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            shapes[16 + 2 * tile] = 64;
            shapes[48 + tile] = ROWS as u8;
            tile += 1;
        }
        Shapes(shapes)
    };
    /// Also if `f` unwinds.
    struct Release;
    impl Drop for Release {
        fn drop(&mut self) {
            // SAFETY: the machine has the instruction.
            unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) }
        }
    }
    // SAFETY: the shapes are valid for this palette.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &SHAPES, options(nostack, readonly, preserves_flags)) }
    let _release = Release;
    f()
}

/// `c [32, 32] = a [32, k] b`, of which `two` says whether the lower 16 rows are wanted: `a` in rows of bf16 `a_row` bytes
/// apart, `b` in rows of 32 pairs of bf16, `c` in rows of 32 f32. `steps = k / 32` is at least 1.
/// # Safety
/// Inside [`with_tiles`]; all of it can be read and written.
pub(crate) unsafe fn multiply(
    a: *const u16,
    a_row: usize,
    b: *const u16,
    steps: usize,
    c: *mut f32,
    two: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if two {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{a} + {a_row}]",
                "tileloadd tmm6, [{b} + {b_row}]",
                "tileloadd tmm7, [{b} + {b_row} + 64]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{lower} + {a_row}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 64",
                "add {lower}, 64",
                "add {b}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{c} + {b_row}], tmm0",
                "tilestored [{c} + {b_row} + 64], tmm1",
                "tilestored [{c} + {b_row} + 2048], tmm2",
                "tilestored [{c} + {b_row} + 2112], tmm3",
                a = inout(reg) a => _,
                lower = inout(reg) a.byte_add(ROWS * a_row) => _,
                a_row = in(reg) a_row,
                b = inout(reg) b => _,
                b_row = in(reg) 128usize,
                steps = inout(reg) steps => _,
                c = in(reg) c,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        } else {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "2:",
                "tileloadd tmm4, [{a} + {a_row}]",
                "tileloadd tmm6, [{b} + {b_row}]",
                "tileloadd tmm7, [{b} + {b_row} + 64]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "add {a}, 64",
                "add {b}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{c} + {b_row}], tmm0",
                "tilestored [{c} + {b_row} + 64], tmm1",
                a = inout(reg) a => _,
                a_row = in(reg) a_row,
                b = inout(reg) b => _,
                b_row = in(reg) 128usize,
                steps = inout(reg) steps => _,
                c = in(reg) c,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        }
    }
}

/// Does `rounds` of products of tiles in registers, four at a time; how many operations that were.
/// # Safety
/// [`available`] has said yes.
pub(crate) unsafe fn rounds(rounds: usize) -> f64 {
    // SAFETY: the caller's promise; tiles are zero when they are configured, and nothing is read or written.
    unsafe {
        with_tiles(|| {
            for _ in 0..rounds {
                asm!(
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    options(nomem, nostack, preserves_flags),
                )
            }
        });
    }
    (rounds * 4 * 2 * 16 * 16 * 32) as f64
}

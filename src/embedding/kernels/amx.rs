//! Tile products: Intel's Advanced Matrix Extensions.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::OnceLock;

use super::{COLUMNS, Line, PANEL, Product16, SumsF32};

/// Rows of a tile.
const TILE_ROWS: usize = 16;

/// Whether the processor has tiles and products of bf16, and the system lets this process use
/// them. The system is asked once: the permission is for the whole process and for good.
pub(super) fn is_granted() -> bool {
    static GRANTED: OnceLock<bool> = OnceLock::new();
    *GRANTED.get_or_init(|| is_present() && ask())
}

/// The processor's part, and that the system saves the tiles when it switches threads.
fn is_present() -> bool {
    /// Bits of leaf 7's EDX: bf16 and tiles.
    const AMX: u32 = (1 << 22) | (1 << 24);
    /// Bit of leaf 1's ECX: XGETBV may be used.
    const OSXSAVE: u32 = 1 << 27;
    /// State components: tile configuration and tile data.
    const TILES: u64 = (1 << 17) | (1 << 18);
    if __cpuid(0).eax < 7
        || __cpuid(1).ecx & OSXSAVE == 0
        || __cpuid_count(7, 0).edx & AMX != AMX
        || !is_x86_feature_detected!("xsave")
    {
        return false;
    }
    // SAFETY: OSXSAVE says that the instruction exists and is enabled.
    unsafe { _xgetbv(0) & TILES == TILES }
}

/// Asks Linux for the tile data, which it keeps back until a process says that it wants it. The
/// answer is no if a signal stack is too small for a frame with tiles in it.
#[cfg(target_os = "linux")]
fn ask() -> bool {
    const ARCH_PRCTL: u64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let failed: u64;
    // SAFETY: a system call that takes two numbers and touches no memory of the process; it
    // overwrites rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => failed,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    failed == 0
}

/// How other systems grant tiles is not known here.
#[cfg(not(target_os = "linux"))]
fn ask() -> bool {
    false
}

/// The shape of the tiles, as LDTILECFG takes it.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// All eight tiles whole: 16 rows of 64 bytes.
static WHOLE: TileConfig = TileConfig {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// This thread's tiles, in use while it lives. Tiles that are not in use cost nothing when the
/// system switches threads.
pub(super) struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// # Safety
    ///
    /// [`is_granted`] must be true, and the thread have no other `Tiles`.
    pub(super) unsafe fn take() -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::configure() }
        Self(PhantomData)
    }

    /// Runs `work`, which may take tiles of its own on this thread, and not use these.
    pub(super) fn set_aside(&self, work: impl FnOnce()) {
        work();
        // SAFETY: as in `take`; what `work` took it has given back.
        unsafe { Self::configure() }
    }

    /// # Safety
    ///
    /// [`is_granted`] must be true.
    unsafe fn configure() {
        // SAFETY: the caller's promise; the configuration is well-formed.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const WHOLE, options(nostack, readonly));
        }
    }

    /// See [`Product16`]: of the lines of `part` only, added to what `out` has, unless they are
    /// the first.
    pub(super) fn product_bf16(
        &self,
        product: &Product16<'_>,
        part: Range<usize>,
        out: &mut SumsF32,
    ) {
        let Product16 { a, rows, depth, b } = *product;
        let panel = depth * PANEL;
        let n_panels = b.len() / panel;
        // Tiles are read whole: the rows of `a` come in sixteens.
        assert!(rows <= 2 * TILE_ROWS && a.len() >= rows.next_multiple_of(TILE_ROWS) * depth);
        assert!(part.start < part.end && part.end <= depth);
        assert!((1..=COLUMNS / PANEL).contains(&n_panels));
        let (a, b) = (a[part.start..].as_ptr(), &b[part.start * PANEL..]);
        let shape = Shape { depth, n: part.len(), add: part.start > 0 };
        for p in (0..n_panels).step_by(2) {
            // A last panel without a partner is its own: what that makes goes beyond the columns
            // asked for, where nobody looks.
            let other = if p + 1 < n_panels { p + 1 } else { p };
            let (b0, b1) = (b[p * panel..].as_ptr(), b[other * panel..].as_ptr());
            let out = &raw mut out.0[0][p * PANEL];
            // SAFETY: tiles are configured as long as `self` lives. `a` has 16 or 32 rows of
            // `depth` lines, each panel `16 · depth` lines, of which the part is within, and `out`
            // 32 rows of 64 numbers, of which the block takes 32 columns: `p` is 0 or 2.
            unsafe {
                if rows > TILE_ROWS {
                    two_by_two(a, shape, b0, b1, out);
                } else {
                    one_by_two(a, shape, b0, b1, out);
                }
            }
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the instruction is there, or `self` could not have been made.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }
}

/// How much of the rows and panels a product of tiles takes.
#[derive(Clone, Copy)]
struct Shape {
    /// Lines from a row to the next.
    depth: usize,
    /// Lines to be multiplied.
    n: usize,
    /// Whether to add to what there is.
    add: bool,
}

/// Two tiles of rows times two of columns. The columns are read past the first-level cache, where
/// the rows are to stay: they meet all columns one after the other.
///
/// # Safety
///
/// Tiles are configured. From `a` on there are 32 rows of `shape.n` lines, `shape.depth` apart,
/// from `b0` and `b1` on `16 · shape.n` lines, and from `out` on 32 rows of 64 numbers, but for the
/// last one's second half.
unsafe fn two_by_two(
    a: *const Line,
    shape: Shape,
    b0: *const Line,
    b1: *const Line,
    out: *mut f32,
) {
    let Shape { depth, n, add } = shape;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "test {add}, {add}",
            "jz 3f",
            "tileloadd tmm0, [{out} + {wide}]",
            "tileloadd tmm1, [{out} + {wide} + 64]",
            "tileloadd tmm2, [{out} + {wide} + 4096]",
            "tileloadd tmm3, [{out} + {wide} + 4160]",
            "jmp 2f",
            "3:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloaddt1 tmm6, [{b0} + {line}]",
            "tileloadd tmm4, [{a0} + {row}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloaddt1 tmm7, [{b1} + {line}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a1} + {row}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a0}, 64",
            "add {a1}, 64",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "dec {n}",
            "jnz 2b",
            "tilestored [{out} + {wide}], tmm0",
            "tilestored [{out} + {wide} + 64], tmm1",
            "tilestored [{out} + {wide} + 4096], tmm2",
            "tilestored [{out} + {wide} + 4160], tmm3",
            a0 = inout(reg) a => _,
            a1 = inout(reg) a.add(TILE_ROWS * depth) => _,
            b0 = inout(reg) b0 => _,
            b1 = inout(reg) b1 => _,
            n = inout(reg) n => _,
            add = in(reg) usize::from(add),
            row = in(reg) depth * size_of::<Line>(),
            line = in(reg) size_of::<Line>(),
            wide = in(reg) COLUMNS * size_of::<f32>(),
            out = in(reg) out,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// One tile of rows times two of columns.
///
/// # Safety
///
/// As [`two_by_two`], with half of the rows.
unsafe fn one_by_two(
    a: *const Line,
    shape: Shape,
    b0: *const Line,
    b1: *const Line,
    out: *mut f32,
) {
    let Shape { depth, n, add } = shape;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "test {add}, {add}",
            "jz 3f",
            "tileloadd tmm0, [{out} + {wide}]",
            "tileloadd tmm1, [{out} + {wide} + 64]",
            "jmp 2f",
            "3:",
            "tilezero tmm0",
            "tilezero tmm1",
            "2:",
            "tileloadd tmm4, [{a} + {row}]",
            "tileloaddt1 tmm6, [{b0} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloaddt1 tmm7, [{b1} + {line}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, 64",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "dec {n}",
            "jnz 2b",
            "tilestored [{out} + {wide}], tmm0",
            "tilestored [{out} + {wide} + 64], tmm1",
            a = inout(reg) a => _,
            b0 = inout(reg) b0 => _,
            b1 = inout(reg) b1 => _,
            n = inout(reg) n => _,
            add = in(reg) usize::from(add),
            row = in(reg) depth * size_of::<Line>(),
            line = in(reg) size_of::<Line>(),
            wide = in(reg) COLUMNS * size_of::<f32>(),
            out = in(reg) out,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

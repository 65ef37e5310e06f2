//! Tile products: Intel's Advanced Matrix Extensions.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::{COLUMNS, Line, PANEL, Passing, ProductBf16, STRIP, SumsF32};

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

    /// See [`ProductBf16`].
    pub(super) fn product_bf16(&self, product: &ProductBf16<'_>, out: &mut SumsF32) {
        product.check();
        let ProductBf16 { a, rows, depth, b, ref part, ref passing } = *product;
        let panel = depth * PANEL;
        let n_panels = b.len() / panel;
        let a = a[part.start * STRIP..].as_ptr();
        let b = &b[part.start * PANEL..];
        for p in (0..n_panels).step_by(2) {
            // A last panel without a partner is its own: what that makes goes beyond the columns
            // asked for, where nobody looks.
            let other = if p + 1 < n_panels { p + 1 } else { p };
            let b = [b[p * panel..].as_ptr(), b[other * panel..].as_ptr()];
            let out = &raw mut out.0[0][p * PANEL];
            let whole = Whole { a, b, out, depth, n: part.len(), add: part.start > 0 };
            // SAFETY: tiles are configured as long as `self` lives. `a` has one or two strips of
            // `depth` lines a row, each panel `16 · depth` lines, of which the part is within, and
            // `out` 32 rows of 64 numbers, of which the block takes 32 columns: `p` is 0 or 2.
            unsafe {
                match passing {
                    _ if rows <= STRIP => one_by_two(whole),
                    Passing::Columns => columns_pass(whole, b),
                    Passing::Rows { next } => rows_pass(whole, next.map(<[_]>::as_ptr)),
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

/// What a product of tiles takes, and where it goes.
#[derive(Clone, Copy)]
struct Whole {
    /// The strips.
    a: *const Line,
    /// Two panels.
    b: [*const Line; 2],
    out: *mut f32,
    /// Lines of a row.
    depth: usize,
    /// Lines of a row to be multiplied.
    n: usize,
    /// Whether to add to what there is.
    add: bool,
}

/// Two tiles of rows times two of columns. With each step, two more lines from each of `ahead` on
/// are fetched into the second-level cache.
macro_rules! two_by_two {
    ($(#[$doc:meta])* $name:ident, rows: $rows:literal, columns: $columns:literal) => {
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// Tiles are configured. From `a` on there are two strips, from each `b` on `16 · n` lines,
        /// and from `out` on 32 rows of 64 numbers, but for the last one's second half.
        unsafe fn $name(whole: Whole, ahead: [*const Line; 2]) {
            let Whole { a, b: [b0, b1], out, depth, n, add } = whole;
            // SAFETY: the caller's promise. Fetching ahead does no harm anywhere.
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
                    concat!($columns, " tmm6, [{b0} + {line}]"),
                    concat!($rows, " tmm4, [{a0} + {line}]"),
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    concat!($columns, " tmm7, [{b1} + {line}]"),
                    "prefetcht1 [{p0}]",
                    "prefetcht1 [{p0} + 64]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    concat!($rows, " tmm5, [{a1} + {line}]"),
                    "prefetcht1 [{p1}]",
                    "prefetcht1 [{p1} + 64]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {a0}, 1024",
                    "add {a1}, 1024",
                    "add {b0}, 1024",
                    "add {b1}, 1024",
                    "add {p0}, 128",
                    "add {p1}, 128",
                    "dec {n}",
                    "jnz 2b",
                    "tilestored [{out} + {wide}], tmm0",
                    "tilestored [{out} + {wide} + 64], tmm1",
                    "tilestored [{out} + {wide} + 4096], tmm2",
                    "tilestored [{out} + {wide} + 4160], tmm3",
                    a0 = inout(reg) a => _,
                    a1 = inout(reg) a.add(STRIP * depth) => _,
                    b0 = inout(reg) b0 => _,
                    b1 = inout(reg) b1 => _,
                    p0 = inout(reg) ahead[0] => _,
                    p1 = inout(reg) ahead[1] => _,
                    n = inout(reg) n => _,
                    add = in(reg) usize::from(add),
                    line = in(reg) size_of::<Line>(),
                    wide = in(reg) COLUMNS * size_of::<f32>(),
                    out = in(reg) out,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

two_by_two! {
    /// For rows that stay in the first-level cache, through which the columns pass.
    columns_pass, rows: "tileloadd", columns: "tileloaddt1"
}

two_by_two! {
    /// For columns that stay in the first-level cache, through which the rows pass.
    rows_pass, rows: "tileloaddt1", columns: "tileloadd"
}

/// One tile of rows times two of columns.
///
/// # Safety
///
/// As for two tiles of rows, with one strip.
unsafe fn one_by_two(whole: Whole) {
    let Whole { a, b: [b0, b1], out, n, add, .. } = whole;
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
            "tileloadd tmm4, [{a} + {line}]",
            "tileloaddt1 tmm6, [{b0} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloaddt1 tmm7, [{b1} + {line}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, 1024",
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
            line = in(reg) size_of::<Line>(),
            wide = in(reg) COLUMNS * size_of::<f32>(),
            out = in(reg) out,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

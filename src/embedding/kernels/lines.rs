//! Memory in whole cache lines, which is how the kernels read weights and rows of 16-bit
//! numbers.

use super::STRIP;

/// A cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::embedding) struct Line(pub(in crate::embedding) [u8; Line::BYTES]);

impl Line {
    pub(in crate::embedding) const BYTES: usize = 64;
    /// Floats in a line.
    pub(in crate::embedding) const FLOATS: usize = Self::BYTES / 4;
    /// 16-bit numbers in a line.
    pub(in crate::embedding) const HALVES: usize = Self::BYTES / 2;
    pub(in crate::embedding) const ZERO: Self = Self([0; Self::BYTES]);

    /// It as 32-bit numbers.
    #[inline(always)]
    pub(in crate::embedding) fn words(&self) -> &[u32; Self::FLOATS] {
        // SAFETY: as many bytes, aligned more than enough, and any bits are numbers.
        unsafe { &*(&raw const self.0).cast() }
    }

    /// It as 16-bit numbers.
    #[inline(always)]
    pub(in crate::embedding) fn halves(&self) -> &[u16; Self::HALVES] {
        // SAFETY: as many bytes, aligned more than enough, and any bits are numbers.
        unsafe { &*(&raw const self.0).cast() }
    }

    /// It as 16-bit numbers, to be written.
    #[inline(always)]
    pub(in crate::embedding) fn halves_mut(&mut self) -> &mut [u16; Self::HALVES] {
        // SAFETY: as many bytes, aligned more than enough; any bits are numbers, and any numbers a
        // line; the borrow is exclusive.
        unsafe { &mut *(&raw mut self.0).cast() }
    }
}

/// Where a line of a row stands among strips of rows of `depth` lines.
#[inline(always)]
pub(in crate::embedding) fn in_strip(row: usize, line: usize, depth: usize) -> usize {
    (row / STRIP * depth + line) * STRIP + row % STRIP
}

/// The lines as 16-bit numbers.
#[cfg(test)]
pub(in crate::embedding) fn halves(lines: &[Line]) -> &[u16] {
    // SAFETY: a line is 32 numbers, aligned more than enough, and any bits are one.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * Line::HALVES) }
}

/// The lines as 16-bit numbers, to be written.
pub(in crate::embedding) fn halves_mut(lines: &mut [Line]) -> &mut [u16] {
    // SAFETY: as above; any numbers are a line, and the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * Line::HALVES) }
}

/// The lines as 32-bit numbers, to be written.
pub(in crate::embedding) fn words_mut(lines: &mut [Line]) -> &mut [u32] {
    // SAFETY: a line is 16 numbers, aligned more than enough, any bits are one, and the borrow is
    // exclusive.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * Line::FLOATS) }
}

/// The lines as floats.
pub(in crate::embedding) fn floats(lines: &[Line]) -> &[f32] {
    // SAFETY: a line is 16 floats, aligned more than enough, and any bits are a float.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * Line::FLOATS) }
}

/// [`floats`], to be written.
pub(in crate::embedding) fn floats_mut(lines: &mut [Line]) -> &mut [f32] {
    // SAFETY: as above; any floats are a line, and the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * Line::FLOATS) }
}

/// The first `len` of `buffer`, which grows if it has to and never shrinks: what the buffers of a
/// forward pass are made of. What stood there before still does.
pub(in crate::embedding) fn lend<T: Clone>(buffer: &mut Vec<T>, len: usize, blank: T) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, blank);
    }
    &mut buffer[..len]
}

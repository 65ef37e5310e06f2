//! Texts that are longer than the model reads, a window after another.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use activekg_storage::ids::TenantId;
use activekg_storage::tables::graph::WindowsMode;

use super::tokenize::{Piece, Spread, WordPieces};
use super::{EmbedError, FixedEmbedder};

/// Most windows of a text. With the model that is compiled in they reach 3,104 word pieces, some
/// two thousand words; what comes after is not read.
pub const WINDOWS_MAX: usize = 16;

/// Word pieces that a window shares with the one before; half a window where that is less.
const OVERLAP: usize = 64;

/// What becomes of a text that is longer than the model reads (`EMBEDDING_WINDOWS`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Windows {
    /// The first window is embedded, the rest is not read.
    #[default]
    First,
    /// The vector is the mean of those of all windows, scaled to length 1.
    Mean,
    /// Every window has a vector, and the best of them counts in a search.
    Best,
}

/// A mode that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown windows {0:?}, expected first, mean or best")]
pub struct UnknownWindows(String);

impl Windows {
    /// The modes by their names.
    pub const NAMES: [(&'static str, Self); 3] =
        [("first", Self::First), ("mean", Self::Mean), ("best", Self::Best)];
}

impl FromStr for Windows {
    type Err = UnknownWindows;

    /// Blank text is the default: a variable that is set to nothing is not set.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = text.trim();
        if word.is_empty() {
            return Ok(Self::default());
        }
        let named = Self::NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
        named.map(|(_, mode)| *mode).ok_or_else(|| UnknownWindows(text.to_owned()))
    }
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first",
            Self::Mean => "mean",
            Self::Best => "best",
        })
    }
}

/// How the store calls a mode; none for the first window alone.
#[must_use]
pub fn mode_of(windows: Windows) -> Option<WindowsMode> {
    match windows {
        Windows::First => None,
        Windows::Mean => Some(WindowsMode::Mean),
        Windows::Best => Some(WindowsMode::Best),
    }
}

/// What is stored of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextVector {
    /// Its vector.
    pub values: Vec<f32>,
    /// What was embedded beyond the first window; none where there is nothing beyond it, or only
    /// the first window is wanted.
    pub windows: Option<FurtherWindows>,
}

/// What was embedded of a text beyond its first window.
#[derive(Debug, Clone, PartialEq)]
pub struct FurtherWindows {
    /// What became of the windows.
    pub mode: WindowsMode,
    /// The vectors that are kept besides the text's: with [`WindowsMode::Best`] one for each further
    /// window.
    pub vectors: Vec<Vec<f32>>,
}

impl From<Vec<f32>> for TextVector {
    fn from(values: Vec<f32>) -> Self {
        Self { values, windows: None }
    }
}

impl TextVector {
    /// What is stored of a text whose windows have these vectors, of which there is one at least.
    fn of(mut vectors: Vec<Vec<f32>>, windows: Windows) -> Self {
        match mode_of(windows).filter(|_| vectors.len() > 1) {
            None => Self { values: vectors.swap_remove(0), windows: None },
            Some(mode @ WindowsMode::Mean) => {
                let windows = FurtherWindows { mode, vectors: Vec::new() };
                Self { values: mean(&vectors), windows: Some(windows) }
            }
            Some(mode @ WindowsMode::Best) => {
                let values = vectors.remove(0);
                Self { values, windows: Some(FurtherWindows { mode, vectors }) }
            }
        }
    }
}

impl FixedEmbedder {
    /// What is to be stored of each of a job's texts, in their order, or why there is nothing.
    /// Otherwise as [`FixedEmbedder::each`]; a text fails with the first of its windows that does.
    pub async fn windowed(
        &self,
        tenant: &TenantId,
        texts: Vec<String>,
        windows: Windows,
    ) -> Vec<Result<TextVector, EmbedError>> {
        if windows == Windows::First {
            let vectors = self.each(tenant, texts).await;
            return vectors.into_iter().map(|vector| vector.map(TextVector::from)).collect();
        }
        let n_texts = texts.len();
        let embedder = self.clone();
        let cut = move || {
            let cut = |text: String| {
                let further = embedder.further_windows(&text)?;
                Ok(std::iter::once(text).chain(further).collect())
            };
            texts.into_iter().map(cut).collect::<Vec<Result<Vec<String>, EmbedError>>>()
        };
        let Ok(cut) = tokio::task::spawn_blocking(cut).await else {
            let failed = EmbedError::Failed("cutting texts into windows panicked".to_owned());
            return vec![Err(failed); n_texts];
        };
        let all = cut.iter().flatten().flatten().cloned().collect();
        let mut vectors = self.each(tenant, all).await.into_iter();
        let of_text = |windowed: Result<Vec<String>, EmbedError>| {
            let of_text: Vec<_> = vectors.by_ref().take(windowed?.len()).collect();
            let of_text = of_text.into_iter().collect::<Result<Vec<_>, _>>()?;
            Ok(TextVector::of(of_text, windows))
        };
        cut.into_iter().map(of_text).collect()
    }
}

/// The mean of the vectors of a text's windows, scaled to length 1; zero if they cancel out.
///
/// # Panics
///
/// If the vectors differ in length.
pub fn mean(windows: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0_f64; windows.first().map_or(0, Vec::len)];
    for window in windows {
        assert_eq!(window.len(), sum.len(), "vectors of one model");
        sum.iter_mut().zip(window).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    sum.into_iter().map(|x| (x * scale) as f32).collect()
}

/// The parts of `text` that the windows after the first one hold, in their order. Each begins with
/// a word where that is possible, so that it has the same word pieces as in the whole text.
pub(super) fn further(pieces: &WordPieces, text: &str) -> Result<Vec<String>, EmbedError> {
    let size = pieces.window()?;
    let step = size - overlap(size);
    // A window more than are made, so that the last one ends with a word too.
    let Spread { text, pieces } = pieces.spread(text, size + WINDOWS_MAX * step)?;
    let ranges = cut(&pieces, size, WINDOWS_MAX - 1);
    Ok(ranges.into_iter().map(|range| text[range].to_owned()).collect())
}

fn overlap(size: usize) -> usize {
    OVERLAP.min(size / 2)
}

/// The bytes of at most `most` windows of `size` pieces after the first one.
fn cut(pieces: &[Piece], size: usize, most: usize) -> Vec<Range<usize>> {
    let same_word = |a: usize, b: usize| {
        let (a, b) = (pieces[a].word, pieces[b].word);
        a.is_some() && a == b
    };
    let mut windows = Vec::new();
    let mut before = 0;
    while before + size < pieces.len() && windows.len() < most {
        let wanted = before + size - overlap(size);
        let mut begin = wanted;
        while begin > before && same_word(begin - 1, begin) {
            begin -= 1;
        }
        if begin == before {
            begin = wanted; // one word all along: it is cut
        }
        let mut last = (begin + size).min(pieces.len()) - 1;
        // The model reads no more than its window; a word that it ends in must be whole, or it
        // would have other pieces.
        while last + 1 < pieces.len() && same_word(last, last + 1) {
            last += 1;
        }
        windows.push(pieces[begin].bytes.start..pieces[last].bytes.end);
        before = begin;
    }
    windows
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use proptest::prelude::*;

    use super::*;
    use crate::embedding::ModelInfo;
    use crate::embedding::folder::TOKENIZER;

    /// Pieces of a window without its two marks.
    const SIZE: usize = 254;
    /// Most pieces of a word; a longer one is a single unknown piece.
    const WORD_MAX: usize = 100;

    fn pieces() -> &'static WordPieces {
        static PIECES: OnceLock<WordPieces> = OnceLock::new();
        PIECES.get_or_init(|| WordPieces::new(TOKENIZER, ModelInfo::built_in().max_tokens).unwrap())
    }

    /// The pieces that the model reads of a text, without the marks.
    fn read(text: &str) -> Vec<u32> {
        let ids = pieces().split(text).unwrap();
        ids[1..ids.len() - 1].to_vec()
    }

    /// All pieces of a text.
    fn whole(text: &str) -> Vec<u32> {
        pieces().untruncated(text)
    }

    /// Where in `whole` the windows of `text` lie.
    fn places(text: &str, whole: &[u32]) -> Vec<Range<usize>> {
        let first = 0..read(text).len();
        let mut places = vec![first];
        for window in further(pieces(), text).unwrap() {
            let (read, before) = (read(&window), places[places.len() - 1].clone());
            let latest = before.end - OVERLAP;
            let begins = (before.start + 1..=latest).rev();
            let mut fitting = begins.filter(|&at| whole[at..].starts_with(&read));
            let begin = fitting.next().expect("a window has the pieces of the whole text");
            places.push(begin..begin + read.len());
        }
        places
    }

    #[test]
    fn modes_are_parsed_as_they_are_printed() {
        for (name, mode) in Windows::NAMES {
            assert_eq!((mode.to_string().as_str(), name.parse()), (name, Ok(mode)));
        }
        assert_eq!((" BEST ".parse(), "".parse()), (Ok(Windows::Best), Ok(Windows::First)));
        let error = "last".parse::<Windows>().unwrap_err();
        assert_eq!(error.to_string(), "unknown windows \"last\", expected first, mean or best");
    }

    #[test]
    fn what_is_stored_depends_on_the_mode() {
        let windows = || vec![vec![1.0, 0.0], vec![0.0, 1.0]];
        let first = TextVector::from(vec![1.0, 0.0]);
        assert_eq!(TextVector::of(windows(), Windows::First).values, first.values);
        for (_, mode) in Windows::NAMES {
            assert_eq!(TextVector::of(vec![vec![1.0, 0.0]], mode), first, "{mode}");
        }
        let kept = FurtherWindows { mode: WindowsMode::Best, vectors: vec![vec![0.0, 1.0]] };
        let best = TextVector { windows: Some(kept), ..first };
        assert_eq!(TextVector::of(windows(), Windows::Best), best);
        let kept = FurtherWindows { mode: WindowsMode::Mean, vectors: Vec::new() };
        let mean = TextVector { values: mean(&windows()), windows: Some(kept) };
        assert_eq!(TextVector::of(windows(), Windows::Mean), mean);
    }

    #[test]
    fn the_mean_has_length_1() {
        assert_eq!(mean(&[vec![1.0, 0.0], vec![0.0, 1.0]]), [0.5_f32.sqrt(); 2]);
        assert_eq!(mean(&[vec![0.6, 0.8]]), [0.6, 0.8]);
        assert_eq!(mean(&[vec![1.0], vec![-1.0]]), [0.0]);
        assert!(mean(&[]).is_empty());
    }

    #[test]
    fn a_text_that_fits_has_one_window() {
        let of = |n: usize| further(pieces(), &"word ".repeat(n)).unwrap().len();
        assert_eq!((of(0), of(1), of(SIZE), of(SIZE + 1)), (0, 0, 0, 1));
        assert!(further(pieces(), "").unwrap().is_empty());
    }

    #[test]
    fn windows_of_plain_words_overlap_by_64_and_end_with_the_text() {
        let text: Vec<String> = (0..1000).map(|n| format!("{}", n % 10)).collect();
        let text = text.join(" ");
        let whole = whole(&text);
        assert_eq!(whole.len(), 1000);
        let windows = further(pieces(), &text).unwrap();
        // 254, then 190 more with each: 444, 634, 824, 1000.
        assert_eq!(windows.len(), 4);
        for (n, window) in (1..).zip(&windows) {
            let begin = n * (SIZE - OVERLAP);
            let end = (begin + SIZE).min(1000);
            assert_eq!(read(window), whole[begin..end], "window {n}");
        }
    }

    #[test]
    fn hostile_texts_have_few_and_short_windows() {
        for part in
            ["x", "語", "\u{1f600}", "😀 ", "é", "[CLS]", "-", "\u{301}", "слово ", "a\u{7}"]
        {
            let text = part.repeat((1 << 20) / part.len());
            let windows = further(pieces(), &text).unwrap();
            assert!(windows.len() < WINDOWS_MAX, "{part:?}");
            let bytes: usize = windows.iter().map(String::len).sum();
            assert!(bytes < 256 * 1024, "{part:?}: {bytes}");
        }
        assert!(further(pieces(), &"x".repeat(1 << 20)).unwrap().is_empty(), "one unknown piece");
        let full = further(pieces(), &"語".repeat(1 << 18)).unwrap();
        assert_eq!(full.len(), WINDOWS_MAX - 1);
        assert!(full.iter().all(|window| read(window).len() == SIZE));
    }

    /// A word as long as a window is cut, and the windows go on.
    #[test]
    fn windows_go_on_within_a_word_that_has_no_end() {
        let one_word = (0..1000).map(|n| Piece { bytes: n..n + 1, word: Some(0) });
        let pieces: Vec<Piece> = one_word.collect();
        let windows = cut(&pieces, SIZE, 15);
        let begins: Vec<usize> = windows.iter().map(|window| window.start).collect();
        assert_eq!(begins, [190, 380, 570, 760]);
        assert_eq!(cut(&pieces, SIZE, 2).len(), 2);
        // The shortest window a model can have.
        let tiny = cut(&pieces[..4], 1, 15);
        assert_eq!(tiny.len(), 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// The windows are as the model reads them in the whole text: each begins before the last
        /// 64 pieces of the one before, by less than a word, and none is left out.
        #[test]
        fn windows_cover_the_text_and_overlap(
            words in prop::collection::vec("[a-zA-Z0-9äß語.,'ж😀\u{7}\u{301}-]{1,6}", 0..1400),
            blank in "[ \n\t]{1,2}",
        ) {
            let text = words.join(&blank);
            let whole = whole(&text);
            let places = places(&text, &whole);
            prop_assert!(places.len() <= WINDOWS_MAX);
            for pair in places.windows(2) {
                let shared = pair[0].end - pair[1].start;
                prop_assert!((OVERLAP..OVERLAP + WORD_MAX).contains(&shared), "{pair:?}");
                prop_assert!(pair[1].end > pair[0].end, "{pair:?}");
            }
            let end = places[places.len() - 1].end;
            prop_assert!(end == whole.len() || places.len() == WINDOWS_MAX, "{end}");
        }

        #[test]
        fn any_text_can_be_cut(text in any::<String>(), times in 1_usize..400) {
            let windows = further(pieces(), &text.repeat(times)).unwrap();
            prop_assert!(windows.len() < WINDOWS_MAX);
        }
    }
}

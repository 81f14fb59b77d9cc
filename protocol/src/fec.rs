//! The erasure code: Cauchy Reed-Solomon over GF(2^8) (Blömer et al., "An XOR-based
//! erasure-resilient coding scheme", 1995), polynomial x^8+x^4+x^3+x^2+1.
//!
//! A block has `k` data symbols, numbers 0 to k-1, and parity symbols, numbers k to 255. Parity
//! symbol `s` is the sum over the data symbols `i` of `d[i] / (s + i)`. Any `k` symbols give the
//! block back, and a parity symbol does not depend on how many there are.

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch, u8x16};

const POLYNOMIAL: u16 = 0x11d;

const fn multiply_slowly(a: u8, b: u8) -> u8 {
    let (mut a, mut b, mut product) = (a as u16, b, 0u16);
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        a <<= 1;
        if a & 0x100 != 0 {
            a ^= POLYNOMIAL;
        }
        b >>= 1;
    }
    product as u8
}

const fn inverses() -> [u8; 256] {
    let mut table = [0; 256];
    let mut a = 1;
    while a < 256 {
        // a^254 is the inverse of a.
        let (mut power, mut square, mut exponent) = (1u8, a as u8, 254u8);
        while exponent != 0 {
            if exponent & 1 != 0 {
                power = multiply_slowly(power, square);
            }
            square = multiply_slowly(square, square);
            exponent >>= 1;
        }
        table[a] = power;
        a += 1;
    }
    table
}

static INVERSE: [u8; 256] = inverses();

/// What data symbol `data` is multiplied by in parity symbol `parity`; the two differ.
fn coefficient(parity: u16, data: u16) -> u8 {
    INVERSE[usize::from((parity ^ data) as u8)]
}

/// Products of each factor with 0 to 15, and with 16 times these: every byte is the sum of two
/// such halves, so that a product takes two look-ups, which vector instructions do for many bytes
/// at once (Plank et al., "Screaming fast Galois field arithmetic using Intel SIMD instructions",
/// 2013).
static PRODUCTS: [[[u8; 16]; 2]; 256] = products();

const fn products() -> [[[u8; 16]; 2]; 256] {
    let mut table = [[[0; 16]; 2]; 256];
    let mut factor = 0;
    while factor < 256 {
        let mut half = 0;
        while half < 16 {
            table[factor][0][half] = multiply_slowly(factor as u8, half as u8);
            table[factor][1][half] = multiply_slowly(factor as u8, (half as u8) << 4);
            half += 1;
        }
        factor += 1;
    }
    table
}

/// `out += factor * symbol`, byte by byte; the two are equal in length.
fn add_multiple(out: &mut [u8], symbol: &[u8], factor: u8) {
    dispatch!(Level::new(), simd => add_multiple_with(simd, out, symbol, factor));
}

#[inline(always)]
fn add_multiple_with<S: Simd>(simd: S, out: &mut [u8], symbol: &[u8], factor: u8) {
    let [low, high] = &PRODUCTS[usize::from(factor)];
    let halves = [low, high].map(|half| u8x16::from_slice(simd, half));
    let (out, symbol) = add_whole::<S, S::u8s>(simd, out, symbol, halves);
    let (out, symbol) = add_whole::<S, u8x16<S>>(simd, out, symbol, halves);
    for (sum, byte) in out.iter_mut().zip(symbol) {
        *sum ^= low[usize::from(byte & 15)] ^ high[usize::from(byte >> 4)];
    }
}

/// As much as whole vectors hold; returns the rest of both.
#[inline(always)]
fn add_whole<'a, S: Simd, V>(
    simd: S,
    out: &'a mut [u8],
    symbol: &'a [u8],
    halves: [u8x16<S>; 2],
) -> (&'a mut [u8], &'a [u8])
where
    V: SimdInt<S, Element = u8, Block = u8x16<S>, ByteVector = V>,
{
    let [low, high] = halves.map(V::block_splat);
    let whole = out.len() / V::LEN * V::LEN;
    let (sums, out) = out.split_at_mut(whole);
    let (bytes, symbol) = symbol.split_at(whole);
    for (sum, bytes) in sums
        .chunks_exact_mut(V::LEN)
        .zip(bytes.chunks_exact(V::LEN))
    {
        let bytes = V::from_slice(simd, bytes);
        let product =
            low.swizzle_dyn_within_blocks(bytes & 15) ^ high.swizzle_dyn_within_blocks(bytes >> 4);
        (V::from_slice(simd, sum) ^ product).store_slice(sum);
    }
    (out, symbol)
}

/// Adds to parity symbol `parity`, zeros at first, what data symbol `data` is to it.
pub(crate) fn add_data(parity: u16, out: &mut [u8], data: u16, symbol: &[u8]) {
    add_multiple(out, symbol, coefficient(parity, data));
}

/// Finds the missing data symbols of a block.
///
/// `missing` are their numbers; `parity` as many parity symbols with their numbers; `known` gives
/// each data symbol that is not missing. Returns the missing symbols in the order of `missing`.
pub(crate) fn recover<'a>(
    k: u16,
    missing: &[u16],
    mut parity: Vec<(u16, Vec<u8>)>,
    known: impl Fn(u16) -> &'a [u8],
) -> Vec<Vec<u8>> {
    debug_assert_eq!(missing.len(), parity.len());
    // What the parity symbols say of the missing ones alone.
    for (number, symbol) in &mut parity {
        for data in (0..k).filter(|data| !missing.contains(data)) {
            add_data(*number, symbol, data, known(data));
        }
    }
    // Gauss-Jordan on the square Cauchy matrix, every minor of which is invertible, so that no
    // pivot is ever zero.
    let mut matrix: Vec<Vec<u8>> = parity
        .iter()
        .map(|(number, _)| {
            missing
                .iter()
                .map(|data| coefficient(*number, *data))
                .collect()
        })
        .collect();
    let mut symbols: Vec<Vec<u8>> = parity.into_iter().map(|(_, symbol)| symbol).collect();
    for pivot in 0..missing.len() {
        let scale = INVERSE[usize::from(matrix[pivot][pivot])];
        let row: Vec<u8> = matrix[pivot]
            .iter()
            .map(|a| multiply_slowly(*a, scale))
            .collect();
        let mut symbol = vec![0; symbols[pivot].len()];
        add_multiple(&mut symbol, &symbols[pivot], scale);
        for other in (0..missing.len()).filter(|other| *other != pivot) {
            let factor = matrix[other][pivot];
            if factor != 0 {
                add_multiple(&mut matrix[other], &row, factor);
                add_multiple(&mut symbols[other], &symbol, factor);
            }
        }
        matrix[pivot] = row;
        symbols[pivot] = symbol;
    }
    symbols
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The field written down independently: multiplication through logarithms of 2.
    fn oracle_multiply(a: u8, b: u8) -> u8 {
        let (mut exp, mut log) = ([0u8; 255], [0usize; 256]);
        let mut x = 1u16;
        for (i, e) in exp.iter_mut().enumerate() {
            *e = x as u8;
            log[x as usize] = i;
            x *= 2;
            if x > 255 {
                x ^= 0x11d;
            }
        }
        if a == 0 || b == 0 {
            0
        } else {
            exp[(log[a as usize] + log[b as usize]) % 255]
        }
    }

    fn oracle_parity(parity: u16, data: &[Vec<u8>]) -> Vec<u8> {
        let mut out = vec![0; data[0].len()];
        for (i, symbol) in data.iter().enumerate() {
            let sum = (parity as u8) ^ (i as u8);
            let inverse = (1..=255).find(|x| oracle_multiply(*x, sum) == 1).unwrap();
            for (out, byte) in out.iter_mut().zip(symbol) {
                *out ^= oracle_multiply(*byte, inverse);
            }
        }
        out
    }

    fn encode(parity: u16, data: &[Vec<u8>]) -> Vec<u8> {
        let mut out = vec![0; data[0].len()];
        for (i, symbol) in data.iter().enumerate() {
            add_data(parity, &mut out, i as u16, symbol);
        }
        out
    }

    /// `CASES` seeds, each with a number from 0 to `limits[i]` for every limit.
    fn cases<const N: usize>(limits: [usize; N]) -> impl Iterator<Item = (u64, [usize; N])> {
        const CASES: u64 = 64;
        (0..CASES).map(move |seed| {
            let mut state = seed;
            (
                seed,
                limits.map(|limit| next(&mut state) as usize % (limit + 1)),
            )
        })
    }

    #[test]
    fn parity_is_the_oracles() {
        for (seed, [k, len]) in cases([59, 199]) {
            let (k, len) = (k + 1, len + 1);
            let data = symbols(k, len, seed);
            for parity in [k as u16, k as u16 + 1, 255] {
                assert_eq!(
                    encode(parity, &data),
                    oracle_parity(parity, &data),
                    "seed {seed}: {k} symbols of {len}, parity {parity}"
                );
            }
        }
    }

    #[test]
    fn any_k_symbols_give_the_block_back() {
        let edges = [(1, 1), (2, 2), (226, 30), (240, 16), (255, 1)];
        let cases = cases([239, 30]).map(|(seed, [k, lost])| (seed, (k + 1, lost)));
        for (seed, (k, lost)) in cases.chain((0..).zip(edges)) {
            let data = symbols(k, 1 + seed as usize % 19, seed);
            let lost = lost.min(k).min(256 - k);
            let missing = choose(k, lost, seed);
            let parity = choose(256 - k, lost, seed ^ 1)
                .into_iter()
                .map(|n| n + k as u16)
                .map(|number| (number, encode(number, &data)))
                .collect();
            let found = recover(k as u16, &missing, parity, |i| &data[usize::from(i)]);
            assert_eq!(found.len(), lost);
            for (number, symbol) in missing.iter().zip(found) {
                assert_eq!(
                    symbol,
                    data[usize::from(*number)],
                    "seed {seed}: {lost} of {k} symbols lost, symbol {number}"
                );
            }
        }
    }

    fn next(state: &mut u64) -> u64 {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    fn symbols(k: usize, len: usize, mut seed: u64) -> Vec<Vec<u8>> {
        (0..k)
            .map(|_| (0..len).map(|_| next(&mut seed) as u8).collect())
            .collect()
    }

    /// `count` distinct numbers below `n`, in a shuffled order.
    fn choose(n: usize, count: usize, mut seed: u64) -> Vec<u16> {
        let mut all: Vec<u16> = (0..n as u16).collect();
        for i in 0..count {
            let j = i + next(&mut seed) as usize % (n - i);
            all.swap(i, j);
        }
        all.truncate(count);
        all
    }
}

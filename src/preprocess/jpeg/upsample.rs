//! Upsampling of chroma as libjpeg does it by default: a triangle filter, whose roundings go up and down in turn so that they cancel out.

/// Repeats each sample.
pub(super) fn repeat(row: &[u8], times: usize, out: &mut [u8]) {
    for (out, &sample) in out.chunks_exact_mut(times).zip(row) {
        out.fill(sample);
    }
}

/// Twice as many across: three quarters of the nearer sample, one of the farther. `row`: 3 samples or more.
pub(super) fn across(row: &[u8], out: &mut [u8]) {
    let n = row.len();
    let wide = |i: usize| u16::from(row[i]);
    out[0] = row[0];
    out[1] = ((3 * wide(0) + wide(1) + 2) >> 2) as u8;
    let (pairs, _) = out[2..2 * n - 2].as_chunks_mut::<2>();
    for (out, ((&left, &here), &right)) in pairs.iter_mut().zip(row.iter().zip(&row[1..]).zip(&row[2..])) {
        let here = 3 * u16::from(here);
        *out = [((here + u16::from(left) + 1) >> 2) as u8, ((here + u16::from(right) + 2) >> 2) as u8];
    }
    out[2 * n - 2] = ((3 * wide(n - 1) + wide(n - 2) + 1) >> 2) as u8;
    out[2 * n - 1] = row[n - 1];
}

/// Between two rows: `near` counts three times. `upper`: the new row is above `near`.
pub(super) fn down(near: &[u8], far: &[u8], upper: bool, out: &mut [u8]) {
    let rounding = if upper { 1 } else { 2 };
    for (out, (&near, &far)) in out.iter_mut().zip(near.iter().zip(far)) {
        *out = ((3 * u16::from(near) + u16::from(far) + rounding) >> 2) as u8;
    }
}

/// Twice as many across, between two rows. Rounded once, at the end. `near`: 3 samples or more; `sums`: as long or longer.
pub(super) fn both(near: &[u8], far: &[u8], sums: &mut [i16], out: &mut [u8]) {
    let n = near.len();
    let sums = &mut sums[..n];
    for (sum, (&near, &far)) in sums.iter_mut().zip(near.iter().zip(far)) {
        *sum = 3 * i16::from(near) + i16::from(far);
    }
    out[0] = ((4 * sums[0] + 8) >> 4) as u8;
    out[1] = ((3 * sums[0] + sums[1] + 7) >> 4) as u8;
    let (pairs, _) = out[2..2 * n - 2].as_chunks_mut::<2>();
    for (out, ((left, here), right)) in pairs.iter_mut().zip(sums.iter().zip(&sums[1..]).zip(&sums[2..])) {
        *out = [((3 * here + left + 8) >> 4) as u8, ((3 * here + right + 7) >> 4) as u8];
    }
    out[2 * n - 2] = ((3 * sums[n - 1] + sums[n - 2] + 8) >> 4) as u8;
    out[2 * n - 1] = ((4 * sums[n - 1] + 7) >> 4) as u8;
}

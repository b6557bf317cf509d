"""The interval of the calibration error, whose plain sum of gaps is never 0 by chance.

The calibration error adds the sizes of gaps: of each bin of rows, observed rate less stated
probability. Noise makes each gap larger, so the sum of a perfectly calibrated model is not 0, and
an error of the sum alone says nothing about how far above the truth it lies. So the question is
turned round: if the true gaps were *t* times those seen, which sums would be seen? The interval
holds the *t* for which the sum that was seen is among the usual 95 %, times that sum.

A bin's noise comes from its units, those of one unit counted together; noise common to bins comes
from the units' own sums over all bins.

Source: inverting a test (Casella & Berger, section 9.2) over one family of gaps; the mean of a
folded normal number after Leone, Nelson & Nottingham (1961).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from loopline.evaluate.formulas import calibration_bins, folded_mean
from loopline.evaluate.rows import Floats, Rows, Units
from loopline.evaluate.tails import Moments

PROFILE = 1.05
"""The gaps' proportions are themselves an estimate: so much longer are the ends, by simulation."""
DOUBLINGS = 40


@dataclass(frozen=True)
class Gaps:
    """What the interval takes from the bins.

    Args:
        share: weight of each bin, summing to 1.
        size: of each bin's gap as it was seen, >= 0.
        error: standard error of each gap.
        common: how much larger the sum's variance is than if bins were independent, at least 1.
        freedom: degrees of freedom of the sum's error.
    """

    share: Floats
    size: Floats
    error: Floats
    common: float
    freedom: float

    @staticmethod
    def of(rows: Rows, units: Units) -> Gaps:
        """The gaps of the bins of these rows."""
        bins = calibration_bins(rows)
        apart = bins.residual - bins.gap[bins.code]
        error = np.sqrt(bins.variance)
        if units.code is not None:
            error = _clustered(bins.code, rows.weight * apart, rows.weight, units)
        signed = np.sign(bins.gap)[bins.code] * apart
        whole = Moments.of(0.0, units.sums(rows.weight * signed), float(rows.weight.sum()))
        alone = float((bins.share * error) @ (bins.share * error))
        common = max(1.0, whole.error**2 / alone) if alone > 0 else 1.0
        return Gaps(bins.share, np.abs(bins.gap), error, common, whole.freedom)

    @property
    def total(self) -> float:
        """The sum that was seen."""
        return float(self.share @ self.size)

    def sum_if(self, times: float) -> tuple[float, float]:
        """Mean and standard error of the sum if the true gaps were so many times those seen."""
        mean = folded_mean(times * self.size, self.error)
        variance = np.maximum((times * self.size) ** 2 + self.error**2 - mean**2, 0.0)
        spread = math.sqrt(self.common * float(self.share**2 @ variance))
        return float(self.share @ mean), spread

    def ends(self, quantile: float) -> tuple[float, float]:
        """The smallest and the largest calibration error under which this sum is usual.

        A sum below what noise alone makes is read as if it were one error below that, so that luck
        does not make a short interval.
        """
        noise, spread = self.sum_if(0.0)
        low = self._times(self.total, quantile)
        high = self._times(max(self.total, noise - spread), -quantile)
        return low * self.total, high * self.total

    def _times(self, total: float, errors: float) -> float:
        """The multiple whose mean plus so many errors is `total`; 0 where it is above from 0 on."""

        def reaches(times: float) -> bool:
            mean, spread = self.sum_if(times)
            return mean + errors * spread >= total

        low, high = 0.0, 1.0
        if reaches(low) or self.total <= 0:
            return 0.0
        for _ in range(DOUBLINGS):
            if reaches(high):
                break
            high *= 2
        for _ in range(DOUBLINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if reaches(middle) else (middle, high)
        return high


def _clustered(code: np.ndarray, apart: Floats, weight: Floats, units: Units) -> Floats:
    """Standard error of each bin's gap, with the rows of one unit in a bin counted together."""
    cells, place = np.unique(code * units.count + units.code, return_inverse=True)
    sums = np.bincount(place, weights=apart)
    own = cells // units.count
    counts = np.maximum(np.bincount(own), 2)
    squares = np.bincount(own, weights=sums**2) * counts / (counts - 1)
    return np.asarray(np.sqrt(squares) / np.bincount(code, weights=weight), dtype=np.float64)

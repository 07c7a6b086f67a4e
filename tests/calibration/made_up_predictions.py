"""Made-up patients whose vertebrae are alike, and fold models that differ a little."""

import numpy as np
from scipy.special import softmax

from spinecls.calibration.out_of_fold import OutOfFold

SHARES = (0.6, 0.25, 0.15)


class World:
    """Vertebrae of three classes; what a model sees is blurred by the patient and by the model's own bias.

    `sharpness` 1 = the probabilities are too cautious, 3 = too sure; the truth lies in between.
    """

    def __init__(self, seed, num_folds=5, sharpness=2.0, patient_blur=1.0):
        self.rng = np.random.default_rng(seed)
        self.folds = [str(f) for f in range(num_folds)]
        self.sharpness, self.patient_blur = sharpness, patient_blur
        self.bias = 0.3 * self.rng.normal(size=(num_folds, 3))

    def see(self, num_patients, most=8):
        """Patient (N,) and class (N,) of new vertebrae, and (F, N, 3) probabilities by every fold model."""
        sizes = self.rng.integers(1, most + 1, num_patients)
        patients = np.repeat(np.arange(num_patients), sizes)
        truth = self.rng.choice(3, size=len(patients), p=SHARES)
        seen = 1.5 * np.eye(3)[truth] + self.rng.normal(size=(len(patients), 3))
        seen += self.patient_blur * self.rng.normal(size=(num_patients, 3))[patients]
        own = self.bias[:, None] + 0.3 * self.rng.normal(size=(len(self.folds), len(patients), 3))
        return patients, truth, softmax(self.sharpness * (seen + own), axis=-1)

    def out_of_fold(self, num_patients, most=8):
        """Vertebrae predicted each by the model of its patient's fold."""
        patients, truth, probabilities = self.see(num_patients, most)
        fold = patients % len(self.folds)
        return OutOfFold(
            patients=np.char.add("p", patients.astype(str)),
            folds=np.asarray(self.folds)[fold],
            truth=truth,
            probabilities=probabilities[fold, np.arange(len(truth))],
        )

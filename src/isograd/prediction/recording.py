from dataclasses import dataclass
@dataclass(frozen=True, slots=True)
class Law:
    mean: float
    variance: float
    kind: str = "unknown"
def law_of(t): return None
def values_law(t):
    x=t.detach().double(); m=float(x.mean()); v=float(x.var(correction=0)) if x.numel()>1 else 0.0
    if abs(m) < 4*(v/x.numel())**.5: m=0.0
    return Law(m, v)

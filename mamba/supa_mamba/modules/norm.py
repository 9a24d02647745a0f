"""Root-mean-square norm, whatever the precisions."""

from torch import Tensor, nn
from torch.nn import functional


class RMSNorm(nn.RMSNorm):
    """Divide each row by its root mean square, in the row's precision; the result has that of the weight.

    Args:
        normalized_shape: features of a row.
        eps: added to the mean square.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            x: (..., features).

        Returns:
            The same shape.
        """
        # PyTorch's fused kernel wants the row and the weight in one precision.
        weight = self.weight.to(x.dtype)
        return functional.rms_norm(x, self.normalized_shape, weight, self.eps).to(self.weight.dtype)

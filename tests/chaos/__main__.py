"""``python -m tests.chaos``."""

from tests.chaos.campaign import main

if __name__ == "__main__":
    main()

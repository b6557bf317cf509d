"""`python -m loopline`: the command line where the `loopline` script is not on the path."""

from loopline.cli.main import main

if __name__ == "__main__":
    main()

"""The words of pictures: how texts are cut into them, what a picture's are, and how two ranked lists become one."""

"""The explorers in JavaScript, readable as they stand; page 60a puts them together and explains them."""

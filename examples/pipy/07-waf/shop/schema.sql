-- A shop with few goods and seven customers whose data are nobody's business.
DROP DATABASE IF EXISTS appdb;
CREATE DATABASE appdb;
USE appdb;
CREATE TABLE items (item_name VARCHAR(40), item_category INT, item_description VARCHAR(80));
CREATE TABLE users (id INT PRIMARY KEY, firstname VARCHAR(40), lastname VARCHAR(40), nric VARCHAR(20), password VARCHAR(40), email VARCHAR(60));
INSERT INTO items VALUES
  ('Coffee', 1, 'Strong, black'), ('Tea', 1, 'A pot of green tea'), ('Lemonade', 1, 'Home-made'),
  ('Toast', 2, 'With butter & jam'), ('Noodles', 2, 'Fried, with vegetables'), ('Soup', 2, 'Of the day'),
  ('Teddy', 3, 'Soft');
INSERT INTO users VALUES
  (1, 'Alice', 'Tan', 'S1234567A', 'correct-horse', 'alice@example.com'),
  (2, 'Bob', 'Lim', 'S7654321B', 'battery-staple', 'bob@example.com'),
  (3, 'Conor', 'O''Brien', 'S1111111C', 'open-sesame', 'conor@example.com');
CREATE OR REPLACE USER shop@localhost IDENTIFIED BY 'shop';
GRANT SELECT ON appdb.* TO shop@localhost;
